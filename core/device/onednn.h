// The contact with oneDNN. Differences between its 2.x and 3.x interfaces stay behind this header.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/tensor.h"
#include "core/device/matmul_shape.h"

namespace takt {

// One oneDNN matmul primitive, created once and run every step on a team of `num_threads` OpenMP threads.
class OnednnMatmul {
 public:
  // Throws kBug with oneDNN's status if the library has no implementation.
  OnednnMatmul(const MatmulShape& shape, int num_threads);
  OnednnMatmul(OnednnMatmul&&) noexcept;
  OnednnMatmul& operator=(OnednnMatmul&&) noexcept;
  ~OnednnMatmul();

  // Done on return. `bias` is ignored unless the shape has one; `scratch` has scratch_bytes and is aligned to 64. Not
  // const: the primitive's arguments are handles of this object, so two threads need two objects.
  void run(const void* a, const void* b, const void* bias, void* c, void* scratch);
  std::size_t scratch_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// C = A B + beta C for small row-major f32 blocks inside a kernel; leading dimensions in elements.
// `transpose_a`: A is stored as [k, m]. Runs on the calling thread when that is inside a parallel loop.
void onednn_sgemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                  float alpha, const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta,
                  float* c, std::int64_t ldc);

// Whether this processor multiplies bf16 matrices by instructions of its own (avx512_bf16, amx).
bool onednn_has_bf16();
std::string onednn_version();  // "2.6.3"
std::string onednn_isa();      // "avx2", "avx512_bf16", …
// Threads of the calling thread's OpenMP team: call before creating and before running primitives.
void set_cpu_threads(int num_threads);

}  // namespace takt
