// The activations as device functions, for the kernels that have one in them.
//
// exp and tanh are CUDA's accurate ones (2 ulp): these kernels wait for memory, the cheaper approximations would not be
// seen in their time but in f32's tolerance.
#pragma once

namespace takt::cuda {

__device__ __forceinline__ float sigmoid(float x) {
  return 1.0f / (1.0f + expf(-x));
}

struct Silu {
  static __device__ __forceinline__ float value(float x) { return x * sigmoid(x); }
  static __device__ __forceinline__ float slope(float x) {
    const float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
  }
};

struct Gelu {
  static constexpr float kScale = 0.79788456080286536f;  // sqrt(2 / pi)
  static constexpr float kCubic = 0.044715f;
  static __device__ __forceinline__ float value(float x) {
    return 0.5f * x * (1.0f + tanhf(kScale * (x + kCubic * x * x * x)));
  }
  static __device__ __forceinline__ float slope(float x) {
    const float t = tanhf(kScale * (x + kCubic * x * x * x));
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * kScale * (1.0f + 3.0f * kCubic * x * x);
  }
};

}  // namespace takt::cuda
