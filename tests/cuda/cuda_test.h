// CudaTest: a test on a GPU, or on the emulated device, which must then have found nothing wrong.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <span>
#include <vector>

#include "core/device/cuda/context.h"
#include "core/device/cuda/pinned.h"

#if defined(TAKT_CUDA_EMULATED)
#include "tests/emulated/control.h"
#endif

namespace takt {

class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
#if defined(TAKT_CUDA_EMULATED)
    emulated::reset();
#else
    int num_devices = 0;
    if (cudaGetDeviceCount(&num_devices) != cudaSuccess || num_devices == 0) GTEST_SKIP() << "no GPU here";
#endif
  }
  void TearDown() override {
#if defined(TAKT_CUDA_EMULATED)
    EXPECT_EQ(emulated::all_diagnoses(), "");
#endif
  }
};

// Pinned memory seen as elements of type T.
template <class T>
std::span<T> elements_of(const PinnedBuffer& buffer) {
  return {reinterpret_cast<T*>(buffer.bytes().data()), buffer.bytes().size() / sizeof(T)};
}

}  // namespace takt
