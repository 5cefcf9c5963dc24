// Matrix products whose sums have one order, whatever the sizes of the matrices, the threads and the rank's share of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/device/matmul_shape.h"
#include "core/ops/ordered_sum.h"

namespace takt {

// Every element of C is a tree over pieces of sums along k, one product after the other. What it depends on are the rows
// of A and columns of B that it is made of, and the pieces. So columns are the same bits on the rank that has all of them
// and on one that has some, which oneDNN does not promise.
class OrderedProduct {
 public:
  // `sum`: how k is taken.
  OrderedProduct(const MatmulShape& shape, const PiecedSum& sum, int num_threads);

  std::size_t scratch_bytes() const;
  // `bias` is ignored unless the shape has one; `scratch` has scratch_bytes and is aligned to 64.
  void run(const void* a, const void* b, const void* bias, void* c, void* scratch) const;

 private:
  template <class In>
  void pack(const In* a, const In* b, float* packed_a, float* packed_b) const;
  template <class Out>
  void multiply(const float* packed_a, const float* packed_b, const float* bias, Out* c) const;

  MatmulShape shape_;
  std::vector<std::int32_t> order_;  // of k: piece after piece
  std::int64_t num_pieces_ = 1;
  int num_threads_ = 1;
};

// What onednn_sgemm computes, in one order, on the calling thread.
void ordered_sgemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                   float alpha, const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
                   float beta, float* c, std::int64_t ldc);

}  // namespace takt
