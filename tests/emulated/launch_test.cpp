// What a device refuses, and what a test makes go wrong.
#include <string>

#include "tests/emulated/emulated_test.h"
#include "tests/emulated/fault_injection.h"
#include "tests/emulated/kernels_for_tests.h"

namespace takt::emulated::test {
namespace {

class Launches : public EmulatedTest {};

TEST_F(Launches, SizesHaveLimits) {
  const StreamOwner stream;
  EXPECT_CUDA(nothing(dim3(1), dim3(1024), 0, stream));
  EXPECT_EQ(nothing(dim3(1), dim3(1025), 0, stream), cudaErrorInvalidConfiguration);
  expect_diagnosis("block 1025 x 1 x 1, wanted 1 to 1024 threads");
  EXPECT_EQ(nothing(dim3(1), dim3(1, 1, 65), 0, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(nothing(dim3(1), dim3(0), 0, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(nothing(dim3(0), dim3(1), 0, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(nothing(dim3(1, 65536), dim3(1), 0, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "a refused launch is not sticky";
  forget();
}

TEST_F(Launches, MuchSharedMemoryMustBeAskedFor) {
  const StreamOwner stream;
  EXPECT_CUDA(nothing(dim3(1), dim3(1), 48 * 1024, stream));
  EXPECT_EQ(nothing(dim3(1), dim3(1), 48 * 1024 + 1, stream), cudaErrorInvalidValue);
  expect_diagnosis("49153 bytes of dynamic shared memory, allowed are 49152");
  EXPECT_CUDA(allow_dynamic_shared_of_nothing(100 * 1024));
  EXPECT_CUDA(nothing(dim3(1), dim3(1), 100 * 1024, stream));
  EXPECT_EQ(allow_dynamic_shared_of_nothing(228 * 1024), cudaErrorInvalidValue)
      << "an H100 has 227 KiB a block";
  EXPECT_CUDA(allow_dynamic_shared_of_nothing(0));
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  forget();
}

TEST_F(Launches, KernelsMustBeBound) {
  const StreamOwner stream;
  EXPECT_EQ(launch_unbound(stream), cudaErrorInvalidDeviceFunction);
  expect_diagnosis("bind()");
}

TEST_F(Launches, PointersMustBeOfTheDevice) {
  const StreamOwner stream;
  const DeviceBuffer<float> x(4);
  std::vector<float> host(4);
  EXPECT_EQ(axpy(1, x.get(), host.data(), 4, stream), cudaErrorInvalidValue);
  expect_diagnosis("a pointer argument: 1 bytes that no device allocation holds");
  EXPECT_CUDA(axpy(1, nullptr, x.get() + 4, 0, stream))
      << "null and one behind the end are no faults in themselves";
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  ASSERT_CUDA(cudaSetDevice(1));
  {
    const StreamOwner elsewhere;
    EXPECT_EQ(axpy(1, x.get(), x.get(), 4, elsewhere), cudaErrorInvalidValue);
    expect_diagnosis("memory of device 0, wanted that of device 1");
    EXPECT_EQ(nothing(dim3(1), dim3(1), 0, stream), cudaErrorInvalidResourceHandle);
    expect_diagnosis("a stream of device 0 while device 1 is current");
  }
  ASSERT_CUDA(cudaSetDevice(0));
}

TEST_F(Launches, AreCounted) {
  const StreamOwner stream;
  const Counters before = counters();
  for (int i = 0; i < 3; ++i) EXPECT_CUDA(nothing(dim3(1), dim3(1), 0, stream));
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(counters().num_launches - before.num_launches, 3u);
  EXPECT_EQ(counters().num_operations - before.num_operations, 3u);
  EXPECT_EQ(counters().num_host_waits - before.num_host_waits, 1u);
}

class Faults : public EmulatedTest {};

TEST_F(Faults, HappenOnceAfterSoManyCalls) {
  inject("cudaMalloc", cudaErrorMemoryAllocation, 2);
  void* pointers[4] = {};
  EXPECT_CUDA(cudaMalloc(&pointers[0], 4));
  EXPECT_CUDA(cudaMalloc(&pointers[1], 4));
  EXPECT_EQ(cudaMalloc(&pointers[2], 4), cudaErrorMemoryAllocation);
  EXPECT_CUDA(cudaMalloc(&pointers[3], 4));
  for (void* pointer : pointers) EXPECT_CUDA(cudaFree(pointer));
}

TEST_F(Faults, OfLibrariesAreFoundByName) {
  inject("ncclAllReduce", 5, 1);
  EXPECT_EQ(injected_fault("ncclBroadcast"), std::nullopt);
  EXPECT_EQ(injected_fault("ncclAllReduce"), std::nullopt);
  EXPECT_EQ(injected_fault("ncclAllReduce"), 5);
  EXPECT_EQ(injected_fault("ncclAllReduce"), std::nullopt);
}

TEST_F(Faults, OnTheStreamBreakTheDevice) {
  const StreamOwner stream;
  inject("kernel.run", cudaErrorECCUncorrectable);
  EXPECT_CUDA(nothing(dim3(1), dim3(1), 0, stream)) << "the launch itself goes well";
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorECCUncorrectable);
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, 4), cudaErrorECCUncorrectable);
  EXPECT_EQ(cudaGetLastError(), cudaErrorECCUncorrectable);
  EXPECT_EQ(cudaGetLastError(), cudaErrorECCUncorrectable) << "sticky";
  expect_diagnosis("kernel: injected fault");
  EXPECT_CUDA(cudaMalloc(&pointer, 4));
  EXPECT_CUDA(cudaFree(pointer));
}

class Devices : public EmulatedTest {};

TEST_F(Devices, HaveTheirModelsProperties) {
  struct Wanted {
    Model model;
    int major;
    std::size_t shared_bytes;
  };
  for (const auto& [model, major, shared_bytes] :
       {Wanted{Model::kH100, 9, 227 << 10}, Wanted{Model::kB200, 10, 227 << 10},
        Wanted{Model::kRtxPro6000, 12, 99 << 10}}) {
    Settings changed = settings();
    changed.model = model;
    configure(changed);
    cudaDeviceProp properties{};
    ASSERT_CUDA(cudaGetDeviceProperties(&properties, 0));
    EXPECT_EQ(properties.major, major);
    EXPECT_EQ(properties.sharedMemPerBlockOptin, shared_bytes);
    EXPECT_EQ(properties.warpSize, 32);
    int num_blocks = 0;
    ASSERT_CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&num_blocks, nullptr, 256, 0));
    EXPECT_EQ(num_blocks, model == Model::kRtxPro6000 ? 6 : 8);
  }
}

TEST_F(Devices, AreAsManyAsWanted) {
  Settings changed = settings();
  changed.num_devices = 512;
  configure(changed);
  int count = 0;
  ASSERT_CUDA(cudaGetDeviceCount(&count));
  EXPECT_EQ(count, 512);
  EXPECT_CUDA(cudaSetDevice(511));
  EXPECT_EQ(cudaSetDevice(512), cudaErrorInvalidDevice);
  char last[16], first[16];
  ASSERT_CUDA(cudaDeviceGetPCIBusId(last, sizeof(last), 511));
  ASSERT_CUDA(cudaDeviceGetPCIBusId(first, sizeof(first), 0));
  EXPECT_STRNE(last, first);
  int found = -1;
  ASSERT_CUDA(cudaDeviceGetByPCIBusId(&found, last));
  EXPECT_EQ(found, 511);
  changed.num_devices = 0;
  configure(changed);
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  cudaGetLastError();
  cudaGetLastError();
}

TEST_F(Devices, ErrorsHaveNames) {
  EXPECT_STREQ(cudaGetErrorName(cudaErrorStreamCaptureUnjoined), "cudaErrorStreamCaptureUnjoined");
  EXPECT_STREQ(cudaGetErrorString(cudaErrorStreamCaptureUnjoined), "stream capture unjoined");
  EXPECT_STREQ(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
}

}  // namespace
}  // namespace takt::emulated::test
