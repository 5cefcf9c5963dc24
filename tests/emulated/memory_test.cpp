// Memory of the emulated devices: limits, poison, ranges and leaks.
#include <cmath>

#include "tests/emulated/allocations.h"
#include "tests/emulated/emulated_test.h"
#include "tests/emulated/kernels_for_tests.h"

namespace takt::emulated::test {
namespace {

class Memory : public EmulatedTest {};

void limit_memory(std::size_t num_bytes) {
  Settings changed = settings();
  changed.memory_bytes = num_bytes;
  configure(changed);
}

TEST_F(Memory, EndsWhereTheLimitIs) {
  limit_memory(1000);
  void *first = nullptr, *second = nullptr;
  ASSERT_CUDA(cudaMalloc(&first, 600));
  EXPECT_EQ(cudaMalloc(&second, 401), cudaErrorMemoryAllocation);
  EXPECT_EQ(second, nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "no memory is not sticky";
  size_t free_bytes = 0, total_bytes = 0;
  ASSERT_CUDA(cudaMemGetInfo(&free_bytes, &total_bytes));
  EXPECT_EQ(free_bytes, 400u);
  EXPECT_EQ(total_bytes, 1000u);
  ASSERT_CUDA(cudaMalloc(&second, 400));
  ASSERT_CUDA(cudaSetDevice(1));
  void* elsewhere = nullptr;
  EXPECT_CUDA(cudaMalloc(&elsewhere, 1000)) << "each device has its own";
  ASSERT_CUDA(cudaSetDevice(0));
  for (void* pointer : {first, second, elsewhere}) EXPECT_CUDA(cudaFree(pointer));
  ASSERT_CUDA(cudaMemGetInfo(&free_bytes, &total_bytes));
  EXPECT_EQ(free_bytes, 1000u);
}

TEST_F(Memory, IsNaNUntilItIsWritten) {
  const DeviceBuffer<float> buffer(8);
  for (const float value : buffer.values()) EXPECT_TRUE(std::isnan(value));
}

TEST_F(Memory, LateWritesToFreedMemoryAreFound) {
  float* pointer = nullptr;
  ASSERT_CUDA(cudaMalloc(reinterpret_cast<void**>(&pointer), 64));
  ASSERT_CUDA(cudaFree(pointer));
  pointer[3] =
      1;  // as a kernel would, through a pointer in a struct; it is in quarantine, so that this is defined
  expect_diagnosis("written after it was freed: byte 12 of a block of 64 bytes");
}

TEST_F(Memory, FreeingTwiceIsAnError) {
  void* pointer = nullptr;
  ASSERT_CUDA(cudaMalloc(&pointer, 64));
  ASSERT_CUDA(cudaFree(pointer));
  EXPECT_EQ(cudaFree(pointer), cudaErrorInvalidValue);
  expect_diagnosis("cudaFree: not the start of a live block");
  EXPECT_CUDA(cudaFree(nullptr));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(Memory, PinnedAndDeviceMemoryAreFreedByTheirOwnCalls) {
  const PinnedBuffer<float> pinned(4);
  const DeviceBuffer<float> buffer(4);
  EXPECT_EQ(cudaFree(pinned.get()), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFreeHost(buffer.get()), cudaErrorInvalidValue);
  EXPECT_EQ(diagnoses().size(), 2u);
  forget();
}

TEST_F(Memory, CopiesStayInTheirBlocks) {
  const StreamOwner stream;
  const DeviceBuffer<float> small(4);
  const PinnedBuffer<float> host(8);
  EXPECT_EQ(cudaMemcpyAsync(small.get(), host.get(), 32, cudaMemcpyHostToDevice, stream),
            cudaErrorInvalidValue);
  expect_diagnosis("cudaMemcpyAsync: destination: 32 bytes from byte 0 in a block of 16, which ends before");
  EXPECT_EQ(cudaMemsetAsync(small.get() + 3, 0, 8, stream), cudaErrorInvalidValue);
  expect_diagnosis("cudaMemsetAsync: 8 bytes from byte 12");
}

TEST_F(Memory, CopiesSayTheirKind) {
  const StreamOwner stream;
  const DeviceBuffer<float> buffer(4);
  const PinnedBuffer<float> host(4);
  EXPECT_EQ(cudaMemcpyAsync(host.get(), buffer.get(), 16, cudaMemcpyHostToDevice, stream),
            cudaErrorInvalidValue);
  expect_diagnosis("source: device memory, but the kind of the copy says host");
  EXPECT_EQ(cudaMemcpyAsync(buffer.get(), host.get(), 16, cudaMemcpyDeviceToDevice, stream),
            cudaErrorInvalidValue);
  expect_diagnosis("source: pinned host memory, but the kind of the copy says device");
  EXPECT_CUDA(cudaMemcpyAsync(buffer.get(), host.get(), 16, cudaMemcpyDefault, stream));
  EXPECT_CUDA(cudaStreamSynchronize(stream));
}

TEST_F(Memory, AsynchronousCopiesWantPinnedMemory) {
  const StreamOwner stream;
  const DeviceBuffer<float> buffer(4);
  std::vector<float> pageable(4, 5);
  EXPECT_EQ(cudaMemcpyAsync(buffer.get(), pageable.data(), 16, cudaMemcpyHostToDevice, stream),
            cudaErrorInvalidValue);
  expect_diagnosis("pageable host memory");
  Settings changed = settings();
  changed.forbid_pageable_copies = false;
  configure(changed);
  ASSERT_CUDA(cudaMemcpyAsync(buffer.get(), pageable.data(), 16, cudaMemcpyHostToDevice, stream));
  pageable.assign(4, 6);  // the call has read it
  ASSERT_CUDA(cudaMemcpyAsync(pageable.data(), buffer.get(), 16, cudaMemcpyDeviceToHost, stream));
  EXPECT_EQ(pageable[3], 5) << "the call has waited";
}

TEST_F(Memory, RangesAreCheckedForLibraries) {
  const DeviceBuffer<float> buffer(4);
  EXPECT_TRUE(check_range(buffer.get(), 16, 0, "x"));
  EXPECT_TRUE(check_range(nullptr, 0, 0, "nothing"));
  EXPECT_EQ(range_problem(nullptr, 4, 0, "x"), "x: 4 bytes at a null pointer");
  EXPECT_EQ(range_problem(buffer.get(), 16, 1, "x"), "x: memory of device 0, wanted that of device 1");
  EXPECT_EQ(range_problem(buffer.get(), 16, kAnyDevice, "x"), "");
  float on_the_stack = 0;
  EXPECT_EQ(range_problem(&on_the_stack, 4, 0, "x"), "x: 4 bytes that no device allocation holds");
  EXPECT_FALSE(check_range(buffer.get() + 2, 16, 0, "bias"));
  expect_diagnosis("bias: 16 bytes from byte 8 in a block of 16, which ends before");
}

TEST_F(Memory, PointersTellTheirDevice) {
  ASSERT_CUDA(cudaSetDevice(2));
  {
    const DeviceBuffer<float> buffer(4);
    const PinnedBuffer<float> host(4);
    cudaPointerAttributes attributes{};
    ASSERT_CUDA(cudaPointerGetAttributes(&attributes, buffer.get() + 1));
    EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
    EXPECT_EQ(attributes.device, 2);
    ASSERT_CUDA(cudaPointerGetAttributes(&attributes, host.get()));
    EXPECT_EQ(attributes.type, cudaMemoryTypeHost);
    ASSERT_CUDA(cudaPointerGetAttributes(&attributes, &attributes));
    EXPECT_EQ(attributes.type, cudaMemoryTypeUnregistered);
  }
  ASSERT_CUDA(cudaSetDevice(0));
}

TEST_F(Memory, LeaksShowInTheCounters) {
  const Counters before = counters();
  void* leaked = nullptr;
  ASSERT_CUDA(cudaMalloc(&leaked, 100));
  EXPECT_EQ(counters().num_live_allocations, before.num_live_allocations + 1);
  EXPECT_EQ(counters().live_bytes, before.live_bytes + 100);
  ASSERT_CUDA(cudaFree(leaked));
  EXPECT_EQ(counters().num_live_allocations, before.num_live_allocations);
}

}  // namespace
}  // namespace takt::emulated::test
