// The launch that the emulator's own kernels use: that of core/device/cuda/launch.h, but it returns errors.
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "tests/emulated/bind.h"

#ifndef TAKT_DYNAMIC_SHARED
#define TAKT_DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(takt::emulated::dynamic_shared())
#endif

namespace takt::emulated::test {

template <class... P, class... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t dynamic_bytes,
                   cudaStream_t stream, A&&... arguments) {
  static_assert(sizeof...(P) == sizeof...(A), "wrong number of kernel arguments");
  bind(kernel);
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = dynamic_bytes;
  config.stream = stream;
  return [&](P... parameters) {
    void* pointers[] = {const_cast<void*>(static_cast<const void*>(&parameters))..., nullptr};
    return cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel), pointers);
  }(static_cast<P>(std::forward<A>(arguments))...);
}

}  // namespace takt::emulated::test
