// CudaContext: what one rank holds of one GPU. There is no state of the process: ranks can be threads.
#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <vector>

#include "core/base/owned.h"
#include "core/device/cuda/stream.h"

struct cublasLtContext;  // *cublasLtHandle_t
struct cudnnContext;     // *cudnnHandle_t

namespace takt {

struct CudaOptions {
  int device = 0;       // ordinal among the visible devices
  int num_streams = 2;  // as many as the schedule has: 0 computes, the others communicate
  std::string matmul_choices =
      {};  // file of measured matmul algorithms; empty: the library's heuristic decides
};

void destroy_cublaslt(cublasLtContext* handle) noexcept;
void destroy_cudnn(cudnnContext* handle) noexcept;

// Must outlive everything made from it. Used by one thread at a time.
class CudaContext {
 public:
  // Makes the device current in the calling thread. Throws kConfig without a driver or without such a device.
  explicit CudaContext(const CudaOptions& options = {});
  CudaContext(const CudaContext&) = delete;
  CudaContext& operator=(const CudaContext&) = delete;

  // Makes the device current in the calling thread, which another than the one that made the context needs.
  void make_current() const;

  int device() const { return options_.device; }
  const cudaDeviceProp& properties() const { return properties_; }
  int num_multiprocessors() const { return properties_.multiProcessorCount; }
  // 90: H100; 100: B200, GB200; 120: RTX PRO.
  int compute_capability() const { return properties_.major * 10 + properties_.minor; }
  const std::string& matmul_choices() const { return options_.matmul_choices; }

  // Stream `number` of the schedule; communication goes first where both have blocks to place.
  const CudaStream& stream(int number) const;
  const CudaStream& compute_stream() const { return stream(0); }
  // Copies between host and device beside the schedule: inputs in, read-backs out.
  const CudaStream& copy_stream() const { return copy_stream_; }
  int num_streams() const { return static_cast<int>(streams_.size()); }
  // Waits on the host for all streams. Throws what their work met.
  void synchronize() const;

  // Handles are made at the first use: each takes device memory that a model without such ops keeps.
  cublasLtContext* cublaslt();
  // Queues on the compute stream; a kernel that runs elsewhere sets the stream before each execution.
  cudnnContext* cudnn();

 private:
  CudaOptions options_;
  cudaDeviceProp properties_ = {};
  std::vector<CudaStream> streams_;
  CudaStream copy_stream_;
  Owned<cublasLtContext*, destroy_cublaslt> cublaslt_;
  Owned<cudnnContext*, destroy_cudnn> cudnn_;
};

}  // namespace takt
