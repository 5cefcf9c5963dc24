// Reduces block by block, so that the accumulator stays in the first-level cache while the ranks' terms
// stream by.
#include "collectives/reduce.h"

#include <algorithm>
#include <cstdint>

#include "core/base/error.h"

namespace takt {
namespace {

constexpr std::size_t kBlockBytes = 8192;

struct Sum {
  float operator()(float a, float b) const { return a + b; }
  double operator()(double a, double b) const { return a + b; }
  // Unsigned, because signed overflow is undefined.
  std::int32_t operator()(std::int32_t a, std::int32_t b) const {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
  }
};

// A NaN wins, so that one rank's NaN is seen by all.
struct Max {
  template <class T>
  T operator()(T a, T b) const {
    return (b > a || b != b) ? b : a;
  }
};

// out may be a or b themselves, so element i of out is written after element i of both is read.
template <class T, class Op>
void combine(T* out, const T* a, const T* b, std::size_t num_elements, Op op) {
#pragma GCC ivdep
  for (std::size_t i = 0; i < num_elements; ++i) out[i] = op(a[i], b[i]);
}

template <class T, class Op>
void reduce(T* out, std::span<const void* const> terms, std::size_t num_elements, Op op) {
  constexpr std::size_t kBlock = kBlockBytes / sizeof(T);
  alignas(64) T accumulator[kBlock];
  const auto term = [&](std::size_t rank, std::size_t begin) {
    return static_cast<const T*>(terms[rank]) + begin;
  };
  const std::size_t last = terms.size() - 1;
  for (std::size_t begin = 0; begin < num_elements; begin += kBlock) {
    const std::size_t num = std::min(kBlock, num_elements - begin);
    // `out` may be any of the terms, so it is written only by the last step.
    const T* so_far = term(0, begin);
    for (std::size_t rank = 1; rank < last; ++rank) {
      combine(accumulator, so_far, term(rank, begin), num, op);
      so_far = accumulator;
    }
    if (last > 0)
      combine(out + begin, so_far, term(last, begin), num, op);
    else if (so_far != out + begin)
      std::copy_n(so_far, num, out + begin);
  }
}

template <class T>
void reduce(void* out, std::span<const void* const> terms, std::size_t num_elements, ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return reduce(static_cast<T*>(out), terms, num_elements, Sum{});
    case ReduceOp::kMax:
      return reduce(static_cast<T*>(out), terms, num_elements, Max{});
  }
}

}  // namespace

void require_reducible(DType dtype) {
  if (dtype != DType::kBF16) return;
  fail(Fault::kConfig, "reduce: the CPU backends cannot reduce ", dtype,
       ", wanted f32, f64 or i32\n  reduce in f32 and convert afterwards");
}

void reduce_in_rank_order(void* out, std::span<const void* const> terms, std::size_t num_elements,
                          DType dtype, ReduceOp op) {
  TAKT_ASSERT(!terms.empty(), "reduce: wanted at least one term");
  switch (dtype) {
    case DType::kF32:
      return reduce<float>(out, terms, num_elements, op);
    case DType::kF64:
      return reduce<double>(out, terms, num_elements, op);
    case DType::kI32:
      return reduce<std::int32_t>(out, terms, num_elements, op);
    case DType::kBF16:
      break;
  }
  require_reducible(dtype);
}

Slice slice_of(std::size_t num_elements, int rank, int num_ranks) {
  const auto ranks = static_cast<std::size_t>(num_ranks);
  const auto index = static_cast<std::size_t>(rank);
  const std::size_t share = num_elements / ranks;
  const std::size_t extra = num_elements % ranks;  // the first `extra` ranks take one more
  const std::size_t begin = index * share + std::min(index, extra);
  return {begin, begin + share + (index < extra ? 1 : 0)};
}

}  // namespace takt
