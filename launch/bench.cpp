// takt bench: times single ops on the devices that a training would use.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <vector>

#include "collectives/agree.h"
#include "collectives/bootstrap.h"
#include "core/base/units.h"
#include "core/device/gpu_peaks.h"
#include "core/device/onednn.h"
#include "core/exec/make_executor.h"
#include "core/state/durable_file.h"
#include "launch/bench_text.h"
#include "launch/cpu_threads.h"
#include "launch/device_choice.h"
#include "launch/registry.h"
#include "launch/version.h"

namespace takt {
namespace {

const std::vector<std::string> kOps = {"matmul", "attention", "copy", "all_reduce"};

struct BenchOptions {
  std::string device = "auto";
  std::vector<std::string> ops = kOps;
  std::vector<std::string> precisions = {"fp32", "bf16"};
  std::vector<std::int64_t> matmul;     // empty: by device
  std::vector<std::int64_t> attention;  // batch, seq, heads, head_dim; empty: by device
  std::vector<std::string> copy;        // sizes; empty: by device
  std::vector<std::string> all_reduce;  // sizes; empty: by device
  int num_samples = 11;
  int threads = 0;
  std::string json;
};

// A GPU is busy with a product of 8192 for some milliseconds; on a core that takes minutes.
void set_defaults(BenchOptions& options, DeviceKind device) {
  const bool is_gpu = device == DeviceKind::kCuda;
  const auto set = [](auto& list, auto value) {
    if (list.empty()) list = value;
  };
  using Extents = std::vector<std::int64_t>;
  using Sizes = std::vector<std::string>;
  set(options.matmul, is_gpu ? Extents{1024, 2048, 4096, 8192, 16384} : Extents{256, 512, 1024});
  set(options.attention, is_gpu ? Extents{4, 4096, 32, 128} : Extents{1, 512, 8, 64});
  set(options.copy, is_gpu ? Sizes{"64MB", "1GB"} : Sizes{"1MB", "64MB"});
  set(options.all_reduce, is_gpu ? Sizes{"1MB", "16MB", "128MB", "1GB"} : Sizes{"1MB", "16MB"});
}

std::vector<std::uint64_t> sizes_of(const std::vector<std::string>& words, const char* flag) {
  std::vector<std::uint64_t> sizes;
  for (const std::string& word : words) {
    const std::optional<std::uint64_t> num_bytes = parse_bytes(word);
    if (!num_bytes || *num_bytes < 4)
      fail(Fault::kUsage, flag, ": \"", word, "\" is no size of at least 4 bytes; write one as \"64MB\"");
    sizes.push_back(*num_bytes / 4 * 4);  // of f32
  }
  return sizes;
}

std::vector<DType> dtypes_of(const std::vector<std::string>& precisions) {
  std::vector<DType> dtypes;
  for (const std::string& precision : precisions)
    dtypes.push_back(precision == "bf16" ? DType::kBF16 : DType::kF32);
  return dtypes;
}

// On what this rank measures.
struct BenchDevice {
  RankDevice rank = {};
  GpuInfo gpu = {};
  ExecutorOptions executor = {};

  std::string text() const {
    return rank.kind == DeviceKind::kCuda
               ? "cuda: " + gpu.name
               : fmt::format("cpu: oneDNN {} {}, {} thread{} a rank", onednn_version(), onednn_isa(),
                             rank.num_threads, rank.num_threads == 1 ? "" : "s");
  }
};

BenchDevice take_device(const BenchOptions& options, const CommandContext& context) {
  World& world = *context.world;
  BenchDevice device;
  device.rank.kind = agree(world.comm(), [&] { return choose_backend(options.device, find_cuda()); });
  device.rank.num_threads = cpu_threads(options.threads, world.ranks_on_host());
  if (device.rank.kind == DeviceKind::kCpu) return device;
  const GpuChoice choice =
      choose_gpu(find_cuda(), context.environment,
                 {.all = world.comm(), .host = world.host(), .host_number = world.host_number()});
  device.gpu = choice.gpu;
  device.executor.gpu = choice.gpu.ordinal;
  device.executor.calls = &world.calls();
  device.executor.nccl.domain = std::to_string(choice.domain);
  return device;
}

// By the data sheet, where the GPU is in the table.
void set_peaks(BenchmarkSet& set, const BenchDevice& device) {
  const std::optional<GpuPeaks> peaks = peaks_of(device.gpu.name);
  if (!peaks) return;
  for (Benchmark& benchmark : set.benchmarks) {
    if (!benchmark.is_bytes)
      benchmark.peak =
          benchmark.op.find("bf16") != std::string::npos ? peaks->bf16_flops_per_s : peaks->f32_flops_per_s;
    else if (benchmark.op.starts_with("copy"))
      benchmark.peak = peaks->memory_bytes_per_s;
  }
}

BenchmarkSet set_of(const std::string& op, const BenchOptions& options, const BenchDevice& device,
                    int num_ranks) {
  if (op == "matmul") return matmul_benchmarks(options.matmul, dtypes_of(options.precisions), device.rank);
  if (op == "attention") {
    const std::vector<std::int64_t>& n = options.attention;
    return attention_benchmarks({.batch = n[0], .seq = n[1], .heads = n[2], .head_dim = n[3]},
                                dtypes_of(options.precisions), device.rank);
  }
  if (op == "copy") return copy_benchmarks(sizes_of(options.copy, "--copy"), device.rank);
  return all_reduce_benchmarks(sizes_of(options.all_reduce, "--all-reduce"), num_ranks, device.rank);
}

std::vector<BenchmarkSet> all_sets(const BenchOptions& options, const BenchDevice& device, int num_ranks) {
  std::vector<BenchmarkSet> sets;
  for (const std::string& op : options.ops) {
    sets.push_back(set_of(op, options, device, num_ranks));
    set_peaks(sets.back(), device);
  }
  return sets;
}

void time_set(const BenchmarkSet& set, const BenchDevice& device, Communicator& all, BenchReport& report) {
  if (set.benchmarks.empty()) return;
  const std::unique_ptr<Communicator> alone = all.split(all.rank(), "one rank");
  const bool spans_ranks = set.plan.mesh.num_ranks() > 1;
  const std::unique_ptr<Executor> executor =
      make_executor(set.plan, spans_ranks ? all : *alone, device.executor);
  fill_operands(*executor);
  for (std::size_t i = 0; i < set.benchmarks.size(); ++i)
    report.results.push_back(
        {set.benchmarks[i], time_program(*executor, static_cast<int>(i), all, report.timing)});
}

int run(const BenchOptions& given, const CommandContext& context) {
  World& world = *context.world;
  const BenchDevice device = take_device(given, context);
  BenchOptions options = given;
  set_defaults(options, device.rank.kind);
  BenchReport report{.version = version() + " (" + build_summary() + ")",
                     .device = device.text(),
                     .num_ranks = world.size(),
                     .num_hosts = world.num_hosts(),
                     .timing = {.num_samples = options.num_samples},
                     .results = {}};
  for (const BenchmarkSet& set : agree(world.comm(), [&] { return all_sets(options, device, world.size()); }))
    time_set(set, device, world.comm(), report);
  agree(world.comm(), [&] {
    if (world.rank() != 0) return;
    std::cout << bench_text(report) << std::flush;
    if (!options.json.empty()) write_file_atomically(options.json, bench_json(report));
  });
  return 0;
}

constexpr const char* kFormulas =
    "What is counted, a rank and run:\n"
    "  matmul      2 n^3 FLOPs\n"
    "  attention   causal, so half of all pairs: batch x heads x seq (seq + 1) / 2 pairs, of 4 head_dim "
    "FLOPs forward\n"
    "              and 10 backward\n"
    "  copy        2 n bytes: n are read, n are written\n"
    "  all_reduce  2 (ranks - 1) / ranks x n bytes: the \"bus bandwidth\" of nccl-tests\n"
    "Time is the median over samples of the slowest rank's. All ranks run at the same time.\n"
    "\"of peak\" is against the GPU's data sheet, dense; plain f32 for fp32.";

void add_options(CLI::App& app, BenchOptions& options) {
  app.add_option("--device", options.device, "auto, cpu or cuda, as device.backend of a job")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  const auto list = [&](const char* flag, auto& values, const char* type, const char* text) {
    return app.add_option(flag, values, text)->type_name(type)->delimiter(',')->allow_extra_args(false);
  };
  list("--only", options.ops, "OP,...", "Some of matmul, attention, copy, all_reduce")
      ->check(CLI::IsMember(kOps));
  list("--precision", options.precisions, "P,...", "Of products and attention: fp32, bf16")
      ->check(CLI::IsMember({"fp32", "bf16"}));
  list("--matmul", options.matmul, "N,...", "Extents of square products")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 17));
  list("--attention", options.attention, "BATCH,SEQ,HEADS,HEAD_DIM", "The size of attention")
      ->expected(4)
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20));
  list("--copy", options.copy, "SIZE,...", "Bytes to copy, such as 64MB");
  list("--all-reduce", options.all_reduce, "SIZE,...", "Bytes to reduce, such as 64MB");
  app.add_option("--samples", options.num_samples, "The median is over so many")
      ->capture_default_str()
      ->check(CLI::Range(1, 10001));
  app.add_option("--threads", options.threads, "CPU threads a rank; 0: the cores of the host over its ranks")
      ->check(CLI::Range(0, 4096));
  app.add_option("--json", options.json, "Write the numbers here, too")->type_name("FILE");
  app.footer(kFormulas);
}

}  // namespace

Command bench_command() {
  return {.name = "bench",
          .summary = "Time products, attention, copies and all-reduces on this machine's devices",
          .prepare = with_options<BenchOptions>(add_options, run),
          .needs_ranks = true};
}

}  // namespace takt
