// Reduces block by block: the partial sums of a block, two for each level of the tree, stay in the
// first-level cache while the ranks' terms stream by.
#include "collectives/reduce.h"

#include <algorithm>
#include <bit>
#include <cstdint>

#include "core/base/error.h"

namespace takt {
namespace {

constexpr std::size_t kBlockBytes = 4096;

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

// Four ranks in one go: half of the partial sums never leave the registers.
template <class T, class Op>
void combine_four(T* out, std::span<const T* const, 4> in, std::size_t num_elements, Op op) {
  const T *a = in[0], *b = in[1], *c = in[2], *d = in[3];
#pragma GCC ivdep
  for (std::size_t i = 0; i < num_elements; ++i) out[i] = op(op(a[i], b[i]), op(c[i], d[i]));
}

// A block of elements of all terms.
template <class T, class Op>
class BlockReduction {
 public:
  BlockReduction(std::size_t begin, std::size_t num_elements) : begin_(begin), num_elements_(num_elements) {}

  // `out` may be any of the terms, so it is written only by the last step of each element.
  void run(T* out, std::span<const ReduceTerm> terms, std::size_t num_ranks) const {
    if (terms.size() == 1) {
      if (data(terms[0]) != out) std::copy_n(data(terms[0]), num_elements_, out);
      return;
    }
    if (terms.size() == 4 && num_ranks == 4) {
      const T* const in[] = {data(terms[0]), data(terms[1]), data(terms[2]), data(terms[3])};
      return combine_four<T>(out, in, num_elements_, Op{});
    }
    const std::size_t num_left = ranks_on_the_left(num_ranks);
    std::size_t covered = 0, cut = 0;
    while (covered < num_left) covered += terms[cut++].num_ranks;
    TAKT_ASSERT(covered == num_left, "reduce: a term is not a node of the tree over ", num_ranks, " ranks");
    alignas(64) T left[kBlock];
    alignas(64) T right[kBlock];
    const T* a = reduced(terms.first(cut), num_left, left);
    const T* b = reduced(terms.subspan(cut), num_ranks - num_left, right);
    combine(out, a, b, num_elements_, Op{});
  }

  static constexpr std::size_t kBlock = kBlockBytes / sizeof(T);

 private:
  const T* data(const ReduceTerm& term) const { return static_cast<const T*>(term.data) + begin_; }

  const T* reduced(std::span<const ReduceTerm> terms, std::size_t num_ranks, T* scratch) const {
    if (terms.size() == 1) return data(terms[0]);
    run(scratch, terms, num_ranks);
    return scratch;
  }

  std::size_t begin_;
  std::size_t num_elements_;
};

template <class T, class Op>
void reduce(void* out, std::span<const ReduceTerm> terms, std::size_t num_elements) {
  using Block = BlockReduction<T, Op>;
  std::size_t num_ranks = 0;
  for (const ReduceTerm& term : terms) num_ranks += term.num_ranks;
  for (std::size_t begin = 0; begin < num_elements; begin += Block::kBlock)
    Block(begin, std::min(Block::kBlock, num_elements - begin))
        .run(static_cast<T*>(out) + begin, terms, num_ranks);
}

template <class T>
void reduce(void* out, std::span<const ReduceTerm> terms, std::size_t num_elements, ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return reduce<T, Sum>(out, terms, num_elements);
    case ReduceOp::kMax:
      return reduce<T, Max>(out, terms, num_elements);
  }
}

}  // namespace

void require_reducible(DType dtype) {
  if (dtype != DType::kBF16 && dtype != DType::kU8) return;
  fail(Fault::kConfig, "reduce: the CPU backends cannot reduce ", dtype,
       ", wanted f32, f64 or i32\n  convert first: bf16 to f32, bytes to i32");
}

std::size_t ranks_on_the_left(std::size_t num_ranks) {
  return std::bit_floor(num_ranks - 1);
}

void reduce_in_tree_order(void* out, std::span<const ReduceTerm> terms, std::size_t num_elements, DType dtype,
                          ReduceOp op) {
  TAKT_ASSERT(!terms.empty(), "reduce: wanted at least one term");
  switch (dtype) {
    case DType::kF32:
      return reduce<float>(out, terms, num_elements, op);
    case DType::kF64:
      return reduce<double>(out, terms, num_elements, op);
    case DType::kI32:
      return reduce<std::int32_t>(out, terms, num_elements, op);
    case DType::kBF16:
    case DType::kU8:
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
