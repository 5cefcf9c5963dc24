// The contact with cuBLASLt.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <optional>

#include "core/device/cuda/context.h"
#include "core/device/matmul_shape.h"

namespace takt {

// What the product does with its result before it is stored. The bias has the result's dtype. kGelu and kBiasGelu also
// store the value before the activation; theirs is the tanh form, at the accuracy of bf16.
enum class MatmulEpilogue { kNone, kBias, kGelu, kBiasGelu };

// One product, described once and queued every step. Sums are f32; f32 operands are not rounded to TF32.
class CublasLtMatmul {
 public:
  // Tensors as a run wants them. `bias` and `before_activation` are for the epilogues that have them.
  struct Tensors {
    const void *a = nullptr, *b = nullptr, *bias = nullptr;
    void *c = nullptr, *before_activation = nullptr;
    void* workspace = nullptr;
  };

  // nullopt: the library offers no algorithm, which is a matter of the epilogue; kNone throws kBug instead. All tensors
  // must be aligned to 16 bytes, and the workspace, which no algorithm that is taken exceeds, to 256.
  //
  // The heuristic's first choice is taken. Where the context names a file of choices, the candidates are measured, once a
  // shape, device and version of the library, and the file remembers the fastest: see matmul_choices.h. That takes device
  // memory for one set of operands meanwhile, and waits for the device: call it in prepare.
  static std::optional<CublasLtMatmul> find(CudaContext& context, const MatmulShape& shape,
                                            MatmulEpilogue epilogue, std::size_t workspace_bytes);
  CublasLtMatmul(CublasLtMatmul&&) noexcept;
  CublasLtMatmul& operator=(CublasLtMatmul&&) noexcept;
  ~CublasLtMatmul();

  // Queues the product. Not const: pointers of the epilogue are set in the descriptor, so two threads need two objects.
  void run(const Tensors& tensors, cudaStream_t stream);

 private:
  struct Impl;
  explicit CublasLtMatmul(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace takt
