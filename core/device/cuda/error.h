// The contact with errors of the CUDA runtime.
#pragma once

#include <cuda_runtime_api.h>

#include "core/base/error.h"

// Wraps every call of the CUDA runtime.
#define TAKT_CUDA(call)                                                                                      \
  do {                                                                                                       \
    const cudaError_t takt_status_ = (call);                                                                 \
    if (takt_status_ != cudaSuccess)                                                                         \
      ::takt::fail(takt_status_ == cudaErrorMemoryAllocation ? ::takt::Fault::kMemory : ::takt::Fault::kBug, \
                   __FILE__, ":", __LINE__, ": ", #call, ": ", cudaGetErrorString(takt_status_));            \
  } while (false)
