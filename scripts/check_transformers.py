#!/usr/bin/env python3
"""Checks that Hugging Face transformers reads what Takt wrote, and computes its loss.

Usage: scripts/check_transformers.py RUN/final [VALID.bin] [--samples N] [--seq S]

Loads the directory with AutoModelForCausalLM.from_pretrained, without network. A missing, unexpected or misshapen
parameter is an error (exit 1). With an llm.c .bin file it prints the mean cross entropy, in nats a token, over the
file's first N samples: sample i has the tokens i S to i S + S - 1 and targets one further, as Takt counts them. So it
can be compared with Takt's own validation loss on the same samples (N = 0: all samples, the whole file).

Needs Python packages that Takt itself does not: torch (CPU will do), transformers, safetensors, numpy.
"""
import argparse
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: a wrong path must not become a download

import numpy as np
import torch
import torch.nn.functional as F
import transformers

NUM_HEADER_WORDS = 256
TOKEN_TYPES = {(20240520, 1): np.uint16, (20240801, 7): np.uint32}  # (magic, version) of llm.c files


def load_model(directory):
    """The model in float32; exits if its parameters are not exactly those of the files."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        directory, output_loading_info=True, local_files_only=True)
    problems = {kind: sorted(map(str, info[kind])) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    for kind, names in problems.items():
        if names:
            print(f"error: {directory}: {kind.replace('_', ' ')}: {', '.join(names)}", file=sys.stderr)
    if any(problems.values()):
        sys.exit(1)
    return model.float().eval()


def read_tokens(path):
    header = np.fromfile(path, dtype="<i4", count=NUM_HEADER_WORDS)
    token_type = TOKEN_TYPES.get(tuple(header[:2].tolist()))
    if token_type is None:
        sys.exit(f"error: {path}: not an llm.c token file, it begins with {header[:2].tolist()}")
    tokens = np.fromfile(path, dtype=token_type, offset=4 * NUM_HEADER_WORDS)
    if len(tokens) != header[2]:
        sys.exit(f"error: {path}: holds {len(tokens)} tokens, its header says {header[2]}")
    return torch.from_numpy(tokens.astype(np.int64))


def mean_loss(model, tokens, seq, num_samples):
    available = (len(tokens) - 1) // seq
    if available == 0:
        sys.exit(f"error: {len(tokens)} tokens are too few for one sample of {seq}")
    num_samples = min(num_samples, available) if num_samples > 0 else available
    total = 0.0
    with torch.no_grad():
        for index in range(num_samples):
            begin = index * seq
            logits = model(tokens[None, begin : begin + seq]).logits[0]
            total += F.cross_entropy(logits.double(), tokens[begin + 1 : begin + seq + 1]).item()
    return total / num_samples, num_samples


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", help="the final/ folder of a run")
    parser.add_argument("tokens", nargs="?", help="an llm.c .bin file")
    parser.add_argument("--samples", type=int, default=16, help="how many samples (default 16; 0: all)")
    parser.add_argument("--seq", type=int, help="tokens a sample (default: the model's longest sequence)")
    args = parser.parse_args()

    model = load_model(args.directory)
    num_parameters = sum(p.numel() for p in model.parameters())
    print(f"{type(model).__name__}: {num_parameters} parameters, none missing, unexpected or misshapen")
    if args.tokens:
        seq = args.seq or model.config.max_position_embeddings
        loss, num_samples = mean_loss(model, read_tokens(args.tokens), seq, args.samples)
        print(f"loss {loss:.6f} over {num_samples} samples of {seq} tokens of {args.tokens}")


if __name__ == "__main__":
    main()
