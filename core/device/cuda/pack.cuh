// Floating elements on the device: stored as f32 or bf16, computed on as float, moved 16 bytes at a time where they lie so.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "core/base/error.h"
#include "core/base/tensor.h"

namespace takt::cuda {

__device__ __forceinline__ float to_float(float x) {
  return x;
}
__device__ __forceinline__ float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}

// A float as stored in a tensor of T, rounded to nearest even.
template <class T>
__device__ __forceinline__ T stored(float x) {
  if constexpr (sizeof(T) == sizeof(__nv_bfloat16))
    return __float2bfloat16_rn(x);
  else
    return x;
}

// Elements of T in 16 bytes; with two types, of the narrower one.
template <class T, class U = T>
inline constexpr int kPackWidth = static_cast<int>(16 / (sizeof(T) < sizeof(U) ? sizeof(T) : sizeof(U)));

// Neighbours that one instruction loads or stores: alignment is what the compiler goes by.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth < 16 ? sizeof(T) * kWidth : 16) Pack {
  T elements[kWidth];
};

template <int kWidth, class T>
__device__ __forceinline__ void load(const T* x, float (&values)[kWidth]) {
  const Pack<T, kWidth> pack = *reinterpret_cast<const Pack<T, kWidth>*>(x);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) values[i] = to_float(pack.elements[i]);
}

template <int kWidth, class T>
__device__ __forceinline__ void store(T* y, const float (&values)[kWidth]) {
  Pack<T, kWidth> pack;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) pack.elements[i] = stored<T>(values[i]);
  *reinterpret_cast<Pack<T, kWidth>*>(y) = pack;
}

inline bool is_aligned(const void* pointer, std::size_t num_bytes = 16) {
  return reinterpret_cast<std::uintptr_t>(pointer) % num_bytes == 0;
}

// Calls f with a zero of the type that stores `dtype`, f32 or bf16, and returns what it returns.
template <class F>
auto with_floating(DType dtype, const F& f) {
  TAKT_ASSERT(dtype == DType::kF32 || dtype == DType::kBF16, "cuda: no kernel for ", dtype);
  return dtype == DType::kBF16 ? f(__nv_bfloat16{}) : f(float{});
}

}  // namespace takt::cuda
