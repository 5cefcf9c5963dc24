// TAKT_CUDA and its siblings, which turn a code of an NVIDIA library into an Error that names the call.
// Light, so that every .cu file can include it: the other libraries' codes arrive as int.
#pragma once

#include <cuda_runtime_api.h>

#include <string_view>
#include <utility>

#include "core/base/error.h"

namespace takt {

// Each throws unless the code is success, with the library's own description. Out of memory is kMemory; no driver, no
// device or one that this build cannot run on is kConfig; a lost or broken link or peer is kPeer; memory errors of the
// hardware are kCorruption; all else is kBug, since we made the call.
void require_cuda(cudaError_t code, const char* call);
void require_cublas(int status, const char* call);  // cublasStatus_t
void require_cudnn(int status, const char* call);   // cudnnStatus_t
// ncclResult_t. ncclInProgress passes: whoever has communicators that do not block asks them for their state.
void require_nccl(int result, const char* call);

// `error` as the node meets it.
Error in_node(const Error& error, std::string_view node);

// Runs `body`; an Error that leaves it also names the node for which it was run.
template <class Body>
decltype(auto) for_node(std::string_view node, Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (const Error& error) {
    throw in_node(error, node);
  }
}

}  // namespace takt

#define TAKT_CUDA(call) ::takt::require_cuda((call), #call)
#define TAKT_CUBLAS(call) ::takt::require_cublas(static_cast<int>(call), #call)
#define TAKT_CUDNN(call) ::takt::require_cudnn(static_cast<int>(call), #call)
#define TAKT_NCCL(call) ::takt::require_nccl(static_cast<int>(call), #call)
