// Which fault a code of CUDA, cuBLAS, cuDNN or NCCL is.
#include "core/device/cuda/error.h"

#include <cublasLt.h>
#include <cudnn.h>
#include <nccl.h>

#include <string>

namespace takt {
namespace {

Fault fault_of(cudaError_t code) {
  switch (code) {
    case cudaErrorMemoryAllocation:
      return Fault::kMemory;
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorDevicesUnavailable:
    case cudaErrorDeviceNotLicensed:
    case cudaErrorInitializationError:
    case cudaErrorStubLibrary:
    case cudaErrorSystemNotReady:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorCallRequiresNewerDriver:
      return Fault::kConfig;
    case cudaErrorPeerAccessUnsupported:
    case cudaErrorNvlinkUncorrectable:
      return Fault::kPeer;
    case cudaErrorECCUncorrectable:
    case cudaErrorContained:
      return Fault::kCorruption;
    default:
      return Fault::kBug;
  }
}

Fault fault_of(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_ALLOC_FAILED:
      return Fault::kMemory;
    case CUBLAS_STATUS_NOT_INITIALIZED:
    case CUBLAS_STATUS_ARCH_MISMATCH:
    case CUBLAS_STATUS_LICENSE_ERROR:
      return Fault::kConfig;
    default:
      return Fault::kBug;
  }
}

Fault fault_of(cudnnStatus_t status) {
  switch (status) {
    case CUDNN_STATUS_ALLOC_FAILED:
    case CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED:
      return Fault::kMemory;
    case CUDNN_STATUS_NOT_INITIALIZED:
    case CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH:
    case CUDNN_STATUS_SERIALIZATION_VERSION_MISMATCH:
    case CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED:
      return Fault::kConfig;
    default:
      return Fault::kBug;
  }
}

Fault fault_of(ncclResult_t result) {
  switch (result) {
    case ncclInternalError:
    case ncclInvalidArgument:
    case ncclInvalidUsage:
      return Fault::kBug;
    default:
      return Fault::kPeer;
  }
}

std::string_view function_of(std::string_view call) {
  return call.substr(0, call.find('('));
}

}  // namespace

void require_cuda(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return;
  fail(fault_of(code), function_of(call), ": ", cudaGetErrorString(code), " (", cudaGetErrorName(code), ")");
}

void require_cublas(int status, const char* call) {
  const auto code = static_cast<cublasStatus_t>(status);
  if (code == CUBLAS_STATUS_SUCCESS) return;
  fail(fault_of(code), function_of(call), ": ", cublasLtGetStatusString(code), " (", status, ")");
}

void require_cudnn(int status, const char* call) {
  const auto code = static_cast<cudnnStatus_t>(status);
  if (code == CUDNN_STATUS_SUCCESS) return;
  fail(fault_of(code), function_of(call), ": ", cudnnGetErrorString(code));
}

void require_nccl(int result, const char* call) {
  const auto code = static_cast<ncclResult_t>(result);
  if (code == ncclSuccess || code == ncclInProgress) return;
  fail(fault_of(code), function_of(call), ": ", ncclGetErrorString(code), "\n  ", ncclGetLastError(nullptr));
}

Error in_node(const Error& error, std::string_view node) {
  Error named(error.fault(), concat("node '", node, "': ", error.what()));
  if (error.agreed()) named.set_agreed();
  return named;
}

}  // namespace takt
