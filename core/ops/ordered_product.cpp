// Blocks of C are kept in registers while k passes by. A and B are first copied into panels, as wide as a block, in the
// order in which k is taken, widened to f32 and filled up with zeros: so every element of C is computed by the same
// instructions, wherever it lies, and the edges of a matrix need no code of their own.
// Source: the panels are those of Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication".
#include "core/ops/ordered_product.h"

#include <algorithm>
#include <cstring>

#include "core/ops/elementwise.h"

namespace takt {
namespace {

// The block that the registers of this processor hold beside a row of B and an element of A.
#ifdef __AVX512F__
constexpr std::int64_t kLanes = 16, kRows = 12, kVectors = 2;
#else
constexpr std::int64_t kLanes = 8, kRows = 6, kVectors = 2;
#endif
constexpr std::int64_t kWidth = kLanes * kVectors, kBlock = kRows * kWidth;
constexpr std::int64_t kPanelsAtOnce = 8;  // of A, while one of B stays in the cache

using Lanes [[gnu::vector_size(kLanes * sizeof(float)), gnu::aligned(sizeof(float))]] = float;

std::int64_t num_panels(std::int64_t extent, std::int64_t width) {
  return (extent + width - 1) / width;
}
std::int64_t panel_elements(std::int64_t extent, std::int64_t width, std::int64_t k) {
  return num_panels(extent, width) * width * k;
}

// block[r, c] = sum over k of a[k, r] b[k, c]
void multiply_panels(const float* a, const float* b, std::int64_t k, float* block) {
  Lanes sums[kRows][kVectors] = {};
  for (std::int64_t i = 0; i < k; ++i, a += kRows, b += kWidth) {
    Lanes row[kVectors];
    for (std::int64_t v = 0; v < kVectors; ++v) std::memcpy(&row[v], b + v * kLanes, sizeof(Lanes));
#pragma GCC unroll 12
    for (std::int64_t r = 0; r < kRows; ++r)
      for (std::int64_t v = 0; v < kVectors; ++v) sums[r][v] += a[r] * row[v];
  }
  std::memcpy(block, sums, sizeof(sums));
}

// A matrix seen with panels along one side: elements between neighbours of a panel, and along k.
template <class T>
struct Side {
  const T* first;
  std::int64_t extent, stride, k_stride;
};

// One panel, [k, width], of the columns (or rows) from `begin` on. `index` maps k to where it lies.
template <std::int64_t width, class T, class Index>
void pack_panel(const Side<T>& side, std::int64_t begin, std::int64_t k, const Index& index, float* panel) {
  const std::int64_t columns = std::min(width, side.extent - begin);
  const T* const first = side.first + begin * side.stride;
  for (std::int64_t i = 0; i < k; ++i, panel += width) {
    const T* const from = first + index(i) * side.k_stride;
    if (columns == width && side.stride == 1) {
      for (std::int64_t c = 0; c < width; ++c) panel[c] = to_float(from[c]);
    } else {
      for (std::int64_t c = 0; c < columns; ++c) panel[c] = to_float(from[c * side.stride]);
      std::fill(panel + columns, panel + width, 0.0f);
    }
  }
}

template <class T>
Side<T> rows_of(const T* a, const MatmulShape& s) {
  return {a, s.m, s.transpose_a ? 1 : s.k, s.transpose_a ? s.m : 1};
}
template <class T>
Side<T> columns_of(const T* b, const MatmulShape& s) {
  return {b, s.n, s.transpose_b ? s.k : 1, s.transpose_b ? 1 : s.n};
}

// The part of a block that exists goes where it belongs.
template <class Out>
void store_block(const float* block, const float* bias, const MatmulShape& s, std::int64_t row,
                 std::int64_t column, Out* c) {
  const std::int64_t rows = std::min(kRows, s.m - row), columns = std::min(kWidth, s.n - column);
  for (std::int64_t r = 0; r < rows; ++r, block += kWidth)
    for (std::int64_t i = 0; i < columns; ++i)
      c[(row + r) * s.n + column + i] = stored<Out>(bias ? block[i] + bias[column + i] : block[i]);
}

}  // namespace

OrderedProduct::OrderedProduct(const MatmulShape& shape, const PiecedSum& sum, int num_threads)
    : shape_(shape), num_pieces_(sum.num_pieces), num_threads_(num_threads) {
  TAKT_ASSERT(sum.num_elements() == shape.k, "matmul: a sum of ", sum.num_elements(), " over k = ", shape.k);
  for (std::int64_t p = 0; p < num_pieces_; ++p)
    sum.for_each(p, [&](std::int64_t k) { order_.push_back(static_cast<std::int32_t>(k)); });
}

// Panels of one matrix of the stack.
std::size_t OrderedProduct::scratch_bytes() const {
  return sizeof(float) * static_cast<std::size_t>(panel_elements(shape_.m, kRows, shape_.k) +
                                                  panel_elements(shape_.n, kWidth, shape_.k));
}

template <class In>
void OrderedProduct::pack(const In* a, const In* b, float* packed_a, float* packed_b) const {
  const Side<In> rows = rows_of(a, shape_), columns = columns_of(b, shape_);
  const std::int64_t k = shape_.k;
  const auto index = [&](std::int64_t i) { return order_[static_cast<std::size_t>(i)]; };
  parallel_for(num_threads_, num_panels(shape_.m, kRows), [&](std::int64_t p) {
    pack_panel<kRows>(rows, p * kRows, k, index, packed_a + p * kRows * k);
  });
  parallel_for(num_threads_, num_panels(shape_.n, kWidth), [&](std::int64_t p) {
    pack_panel<kWidth>(columns, p * kWidth, k, index, packed_b + p * kWidth * k);
  });
}

template <class Out>
void OrderedProduct::multiply(const float* packed_a, const float* packed_b, const float* bias, Out* c) const {
  const std::int64_t k = shape_.k, piece_k = k / num_pieces_, rows = num_panels(shape_.m, kRows),
                     groups = num_panels(rows, kPanelsAtOnce);
  parallel_for(num_threads_, num_panels(shape_.n, kWidth) * groups, [&](std::int64_t task) {
    const std::int64_t column = task / groups, first = task % groups * kPanelsAtOnce;
    alignas(64) float block[kBlock];
    alignas(64) float levels[kMostLevels * kBlock];
    for (std::int64_t row = first; row < std::min(rows, first + kPanelsAtOnce); ++row) {
      const float *a = packed_a + row * kRows * k, *b = packed_b + column * kWidth * k;
      tree_sum(0, num_pieces_, block, levels, kBlock, [&](std::int64_t piece, float* to) {
        multiply_panels(a + piece * piece_k * kRows, b + piece * piece_k * kWidth, piece_k, to);
      });
      store_block(block, bias, shape_, row * kRows, column * kWidth, c);
    }
  });
}

void OrderedProduct::run(const void* a, const void* b, const void* bias, void* c, void* scratch) const {
  auto* const packed_a = static_cast<float*>(scratch);
  float* const packed_b = packed_a + panel_elements(shape_.m, kRows, shape_.k);
  const auto* const row = shape_.has_bias ? static_cast<const float*>(bias) : nullptr;
  with_floating(shape_.dtype, shape_.out_dtype, [&](auto in, auto out) {
    using In = decltype(in);
    using Out = decltype(out);
    for (std::int64_t s = 0; s < shape_.batch; ++s) {
      pack(static_cast<const In*>(a) + s * shape_.m * shape_.k,
           static_cast<const In*>(b) + s * shape_.k * shape_.n, packed_a, packed_b);
      multiply(packed_a, packed_b, row, static_cast<Out*>(c) + s * shape_.m * shape_.n);
    }
  });
}

namespace {

constexpr std::int64_t kMostK = 256, kMostM = 64;  // of a small product at once: panels lie on the stack

// A small product, added to C or, `first`, written there.
void add_product(const Side<float>& a, const Side<float>& b, std::int64_t k, float alpha, bool first,
                 float* c, std::int64_t ldc) {
  constexpr std::int64_t kPanels = (kMostM + kRows - 1) / kRows;
  alignas(64) float packed_a[kPanels * kRows * kMostK];
  alignas(64) float packed_b[kWidth * kMostK];
  alignas(64) float block[kBlock];
  const auto index = [](std::int64_t i) { return i; };
  for (std::int64_t row = 0; row < a.extent; row += kRows)
    pack_panel<kRows>(a, row, k, index, packed_a + row * k);
  for (std::int64_t column = 0; column < b.extent; column += kWidth) {
    pack_panel<kWidth>(b, column, k, index, packed_b);
    for (std::int64_t row = 0; row < a.extent; row += kRows) {
      multiply_panels(packed_a + row * k, packed_b, k, block);
      const std::int64_t rows = std::min(kRows, a.extent - row),
                         columns = std::min(kWidth, b.extent - column);
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t i = 0; i < columns; ++i) {
          float& y = c[(row + r) * ldc + column + i];
          const float product = alpha * block[r * kWidth + i];
          y = first ? product : y + product;
        }
    }
  }
}

}  // namespace

void ordered_sgemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                   float alpha, const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
                   float beta, float* c, std::int64_t ldc) {
  TAKT_ASSERT(m <= kMostM && (beta == 0 || beta == 1), "ordered_sgemm: m is ", m, ", beta ", beta,
              ", wanted at most ", kMostM, ", and 0 or 1");
  for (std::int64_t from = 0; from < k; from += kMostK) {
    const Side<float> rows{a + from * (transpose_a ? lda : 1), m, transpose_a ? 1 : lda,
                           transpose_a ? lda : 1},
        columns{b + from * (transpose_b ? 1 : ldb), n, transpose_b ? ldb : 1, transpose_b ? 1 : ldb};
    add_product(rows, columns, std::min(kMostK, k - from), alpha, beta == 0 && from == 0, c, ldc);
  }
}

}  // namespace takt
