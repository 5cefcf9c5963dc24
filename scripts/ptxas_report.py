#!/usr/bin/env python3
"""Compiles every .cu file for each architecture and reports what ptxas says of its kernels.

Usage: scripts/ptxas_report.py [--nvcc NVCC] [--all] [FILE.cu ...]

A line a kernel and architecture: registers a thread, shared memory a block, bytes of spills, and how many threads of a
multiprocessor these leave room for, in percent, at the block size of its launch bounds. Shared memory that a launch adds is
not known here. Without --all only the worst instance of a template is shown. Warnings are errors. Needs no GPU.
Exits 1 if a kernel spills or does not compile.
"""
import argparse
import collections
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Of a multiprocessor: threads, blocks, bytes of shared memory. All have 65536 registers, handed out to warps by 256s, and
# keep a kibibyte of shared memory a block to themselves. Source: CUDA programming guide, compute capabilities.
ARCHITECTURES = {
    "sm_90": (2048, 32, 228 * 1024),   # H100
    "sm_100": (2048, 32, 228 * 1024),  # B200, GB200
    "sm_120": (1536, 24, 100 * 1024),  # RTX PRO
}
FLAGS = ["-std=c++20", "-O3", "-DTAKT_HAVE_CUDA", f"-I{ROOT}", "-Werror", "all-warnings",
         "-Xcompiler=-Wall,-Wextra,-Werror"]
DEFAULT_BLOCK = 256  # threads, of kernels without launch bounds

Kernel = collections.namedtuple("Kernel", "source name arch block registers shared spills")


def find_nvcc(given):
    """The compiler: as given, in PATH, or in the toolkit's usual place."""
    candidates = [given, shutil.which("nvcc"), os.path.join(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin/nvcc")]
    for candidate in candidates:
        if candidate and os.path.exists(candidate):
            return candidate
    sys.exit("error: ptxas_report: no nvcc; install the CUDA toolkit or name it by --nvcc")


def run(command):
    """What the command prints; ends the program if it fails."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stderr}")
    return result.stdout + result.stderr


def block_sizes(nvcc, source, folder):
    """Threads of a block by mangled kernel name, from launch bounds."""
    ptx = pathlib.Path(folder) / "kernels.ptx"
    run([nvcc, *FLAGS, "-arch=compute_90", "-ptx", source, "-o", ptx])
    sizes = {}
    for name, rest in re.findall(r"\.entry (\w+)\((.*?)\n\{", ptx.read_text(), re.S):
        bound = re.search(r"\.maxntid (\d+)(?:, (\d+))?(?:, (\d+))?", rest)
        sizes[name] = DEFAULT_BLOCK
        if bound:
            x, y, z = (int(n or 1) for n in bound.groups())
            sizes[name] = x * y * z
    return sizes


def readable(names):
    """Mangled names as templates with their arguments, without parameters and namespaces."""
    plain = subprocess.run(["c++filt", *names], capture_output=True, text=True, check=True).stdout.splitlines()
    short = {}
    for mangled, name in zip(names, plain):
        name = re.sub(r"\(anonymous namespace\)::|takt::cuda::|takt::|_INTERNAL\w+::|void |\((?:int|unsigned \w+)\)", "", name)
        short[mangled] = re.sub(r"\([^<>]*\)(?: const)?$|\(.*$", "", name)
    return short


def kernels_of(nvcc, source):
    """All kernels of a source on all architectures."""
    with tempfile.TemporaryDirectory() as folder:
        blocks = block_sizes(nvcc, source, folder)
        targets = [f"-gencode=arch=compute_{a[3:]},code={a}" for a in ARCHITECTURES]
        text = run([nvcc, *FLAGS, *targets, "-Xptxas=-v", "-c", source, "-o", pathlib.Path(folder) / "kernels.o"])
    names = readable(list(blocks)) if blocks else {}
    pattern = (r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
               r".*?Used (\d+) registers([^\n]*)")
    for mangled, arch, stores, loads, registers, rest in re.findall(pattern, text, re.S):
        shared = re.search(r"(\d+) bytes smem", rest)
        yield Kernel(source.relative_to(ROOT), names.get(mangled, mangled), arch, blocks.get(mangled, DEFAULT_BLOCK),
                     int(registers), int(shared.group(1)) if shared else 0, int(stores) + int(loads))


def occupancy(kernel):
    """The part of a multiprocessor's threads that fit."""
    threads, blocks, shared = ARCHITECTURES[kernel.arch]
    warps_a_block = -(-kernel.block // 32)
    registers_a_warp = -(-kernel.registers * 32 // 256) * 256
    fitting = min(blocks, threads // kernel.block, 65536 // registers_a_warp // warps_a_block,
                  shared // (kernel.shared + 1024))
    return fitting * kernel.block / threads


def worst_instances(kernels):
    """Of each template and architecture, the instance that takes most registers."""
    worst = {}
    for kernel in kernels:
        key = (kernel.source, kernel.name.split("<")[0], kernel.arch)
        if key not in worst or (kernel.spills, kernel.registers) > (worst[key].spills, worst[key].registers):
            worst[key] = kernel
    return list(worst.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nvcc")
    parser.add_argument("--all", action="store_true", help="every instance of a template")
    parser.add_argument("sources", nargs="*", type=pathlib.Path)
    args = parser.parse_args()
    nvcc = find_nvcc(args.nvcc)
    sources = [source.resolve() for source in args.sources] or sorted(
        path for top in ("core", "collectives", "optimizers") for path in (ROOT / top).rglob("*.cu"))

    kernels = [kernel for source in sources for kernel in kernels_of(nvcc, source)]
    print(f"{'arch':7} {'regs':>4} {'shared':>7} {'spills':>6} {'block':>5} {'fits':>5}  kernel")
    for k in kernels if args.all else worst_instances(kernels):
        print(f"{k.arch:7} {k.registers:4} {k.shared:7} {k.spills:6} {k.block:5} {occupancy(k):5.0%}  {k.source}: {k.name}")
    spilling = sum(kernel.spills > 0 for kernel in kernels)
    print(f"{len(kernels)} kernels, {spilling} with spills")
    return 1 if spilling else 0


if __name__ == "__main__":
    sys.exit(main())
