// MatmulShape: a matrix product, or a stack of them, as the libraries that compute it see it.
#pragma once

#include <cstdint>

#include "core/base/tensor.h"

namespace takt {

// C[m, n] = A[m, k] B[k, n] (+ bias[n]), row-major, `batch` times over contiguous stacks.
struct MatmulShape {
  std::int64_t batch = 1;
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  bool transpose_a = false;   // A is stored as [k, m]
  bool transpose_b = false;   // B is stored as [n, k]
  bool has_bias = false;      // f32
  DType dtype = DType::kF32;  // of A and B: f32 or bf16
  DType out_dtype = DType::kF32;
};

}  // namespace takt
