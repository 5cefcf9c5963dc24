// What `takt bench` times: programs of one op, as plans that executors run like a step's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/passes/step_plan.h"

namespace takt {

// One program of a plan, and what one run of it is worth.
struct Benchmark {
  std::string op;         // "matmul bf16"
  std::string shape;      // "4096 x 4096 x 4096"
  double work = 0;        // of one rank in one run
  bool is_bytes = false;  // what work counts: bytes, else FLOPs
  double peak = 0;        // of that a second, by the data sheet; 0: not known
};

// Benchmarks over one arena; benchmark i is program i.
struct BenchmarkSet {
  StepPlan plan = {};  // for all ranks, or for one where every rank is on its own
  std::vector<Benchmark> benchmarks = {};
};

struct AttentionSize {
  std::int64_t batch = 1, seq = 1, heads = 1, head_dim = 1;
};

// y = a b of square matrices; 2 n^3 FLOPs.
BenchmarkSet matmul_benchmarks(const std::vector<std::int64_t>& extents, const std::vector<DType>& dtypes,
                               const RankDevice& device);
// Causal attention with as many key heads as heads: forward, and forward with backward. A pair of positions costs 4 head_dim
// FLOPs a head forward and 10 backward, which computes the scores again; half of all pairs count.
BenchmarkSet attention_benchmarks(const AttentionSize& shape, const std::vector<DType>& dtypes,
                                  const RankDevice& device);
// A copy in the device's memory: n bytes are read and n are written, 2 n in all.
BenchmarkSet copy_benchmarks(const std::vector<std::uint64_t>& num_bytes, const RankDevice& device);
// The sum over all ranks of n bytes of f32, in place. Counted as nccl-tests do: 2 (ranks - 1) / ranks x n bytes, which is what a
// rank must send at least, so that the rate ("bus bandwidth") can be held against that of the links. None with one rank.
BenchmarkSet all_reduce_benchmarks(const std::vector<std::uint64_t>& num_bytes, int num_ranks,
                                   const RankDevice& device);

}  // namespace takt
