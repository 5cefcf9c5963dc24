// Launching kernels: what a device would refuse is refused here.
#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/emulated/allocations.h"
#include "tests/emulated/bind.h"
#include "tests/emulated/control.h"
#include "tests/emulated/counters.h"
#include "tests/emulated/device.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/grid.h"
#include "tests/emulated/properties.h"
#include "tests/emulated/stream.h"

namespace takt::emulated {
namespace {

constexpr int kUnaskedSharedBytes = 48 * 1024;  // more dynamic shared memory needs cudaFuncSetAttribute

struct Kernel {
  Invoke invoke = nullptr;  // null: only its attributes were set so far
  std::vector<Parameter> parameters;
  int max_dynamic_bytes = kUnaskedSharedBytes;
};

Mutex kernels_mutex;
std::map<const void*, Kernel>& kernels() {
  static auto& all = *new std::map<const void*, Kernel>;
  return all;
}

cudaError_t refuse(cudaError_t error, const std::string& why) {
  diagnose("cudaLaunchKernel: " + why);
  return error;
}

std::string text(dim3 size) {
  return std::to_string(size.x) + " x " + std::to_string(size.y) + " x " + std::to_string(size.z);
}

cudaError_t check_sizes(const cudaLaunchConfig_t& config, const Kernel& kernel) {
  const dim3 grid = config.gridDim, block = config.blockDim;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    return refuse(cudaErrorInvalidConfiguration,
                  "grid " + text(grid) + ", wanted 1 to 2147483647 x 65535 x 65535");
  const uint64_t num_threads = uint64_t(block.x) * block.y * block.z;
  if (num_threads == 0 || num_threads > 1024 || block.z > 64)
    return refuse(cudaErrorInvalidConfiguration,
                  "block " + text(block) + ", wanted 1 to 1024 threads, z up to 64");
  if (config.dynamicSmemBytes > std::size_t(kernel.max_dynamic_bytes))
    return refuse(cudaErrorInvalidValue, std::to_string(config.dynamicSmemBytes) +
                                             " bytes of dynamic shared memory, " + "allowed are " +
                                             std::to_string(kernel.max_dynamic_bytes) +
                                             ": see cudaFuncSetAttribute");
  if (config.numAttrs > 0) forbidden("cudaLaunchKernelExC: the emulated device knows no launch attributes");
  return cudaSuccess;
}

// A pointer must lie in memory that the device may use, or one behind its end: that of nothing is as good as any.
std::string pointer_problem(const Arguments& arguments, int device_index) {
  for (const void* address : arguments.addresses()) {
    if (address == nullptr) continue;
    const auto* before = static_cast<const char*>(address) - 1;
    const bool at_end = !find_allocation(address) && find_allocation(before);
    const std::string problem =
        range_problem(at_end ? before : address, 1, device_index, "a pointer argument");
    if (!problem.empty()) return problem;
  }
  return {};
}

// As a device: all that the kernel was given is looked at again when it runs, for it may have been freed.
cudaError_t run_kernel(const Launch& launch, const Arguments& arguments, int device_index) {
  if (settings().check_kernel_pointers)
    if (const std::string problem = pointer_problem(arguments, device_index); !problem.empty()) {
      diagnose("kernel: " + problem);
      return cudaErrorIllegalAddress;
    }
  run_grid(launch, arguments);
  return cudaSuccess;
}

cudaError_t launch_kernel(const cudaLaunchConfig_t& config, const void* function, void** arguments) {
  Kernel kernel;
  {
    const Lock lock(kernels_mutex);
    const auto found = kernels().find(function);
    if (found == kernels().end() || !found->second.invoke)
      return refuse(cudaErrorInvalidDeviceFunction, "a kernel that bind() was not told of");
    kernel = found->second;
  }
  if (const cudaError_t error = check_sizes(config, kernel); error != cudaSuccess) return error;
  const int device_index = device_of(config.stream);
  if (device_index != current_device())
    return refuse(cudaErrorInvalidResourceHandle, "a stream of device " + std::to_string(device_index) +
                                                      " while device " + std::to_string(current_device()) +
                                                      " is current");
  auto copied = std::make_shared<const Arguments>(kernel.parameters, arguments);
  const Launch launch{function, kernel.invoke, config.gridDim, config.blockDim, config.dynamicSmemBytes};
  if (settings().check_kernel_pointers)
    if (const std::string problem = pointer_problem(*copied, device_index); !problem.empty())
      return refuse(cudaErrorInvalidValue, problem);
  ++live_counters().num_launches;
  const Run run = [=] { return run_kernel(launch, *copied, device_index); };
  return enqueue(config.stream, {.name = "kernel", .run = run, .instrumented = true});
}

}  // namespace

void bind_kernel(const void* kernel, Invoke invoke, const Parameter* parameters, std::size_t num_parameters) {
  const Lock lock(kernels_mutex);
  Kernel& bound = kernels()[kernel];
  if (bound.invoke != nullptr) return;
  bound.invoke = invoke;
  bound.parameters.assign(parameters, parameters + num_parameters);
}

}  // namespace takt::emulated

using namespace takt::emulated;

extern "C" {

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel, void** arguments) {
  TAKT_EMULATED_BEGIN("cudaLaunchKernel");
  return remember(launch_kernel(*config, kernel, arguments));
}

cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments,
                             size_t dynamic_bytes, cudaStream_t stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = dynamic_bytes;
  config.stream = stream;
  return cudaLaunchKernelExC(&config, kernel, arguments);
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  TAKT_EMULATED_BEGIN("cudaFuncSetAttribute");
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  const std::size_t most = properties_of(settings().model).sharedMemPerBlockOptin;
  if (value < 0 || std::size_t(value) > most) {
    diagnose("cudaFuncSetAttribute: " + std::to_string(value) +
             " bytes of dynamic shared memory, the device has " + std::to_string(most) + " a block");
    return remember(cudaErrorInvalidValue);
  }
  const Lock lock(kernels_mutex);
  kernels()[kernel].max_dynamic_bytes = std::max(value, kUnaskedSharedBytes);
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  TAKT_EMULATED_BEGIN("cudaFuncGetAttributes");
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = 64;  // a guess: what nvcc would use is not known here
  const Lock lock(kernels_mutex);
  attributes->maxDynamicSharedSizeBytes = kernels()[kernel].max_dynamic_bytes;
  return cudaSuccess;
}

// As if only threads and shared memory were short, not registers.
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* num_blocks, const void*, int block_threads,
                                                          size_t dynamic_bytes) {
  TAKT_EMULATED_BEGIN("cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  const cudaDeviceProp properties = properties_of(settings().model);
  if (block_threads < 1 || block_threads > properties.maxThreadsPerBlock)
    return remember(cudaErrorInvalidValue);
  const int by_threads = properties.maxThreadsPerMultiProcessor / block_threads;
  const std::size_t per_block = dynamic_bytes + properties.reservedSharedMemPerBlock;
  const int by_memory = int(properties.sharedMemPerMultiprocessor / std::max(per_block, std::size_t{1}));
  *num_blocks = std::min({by_threads, by_memory, properties.maxBlocksPerMultiProcessor});
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* num_blocks, const void* kernel,
                                                                   int block_threads, size_t dynamic_bytes,
                                                                   unsigned) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(num_blocks, kernel, block_threads, dynamic_bytes);
}

}  // extern "C"
