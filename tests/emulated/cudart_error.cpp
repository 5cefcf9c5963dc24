// The runtime's errors: the last one, and their names.
#include <cuda_runtime_api.h>

#include <cctype>
#include <map>
#include <string>

#include "tests/emulated/device.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/stream_queue.h"

namespace takt::emulated {
namespace {

struct ErrorName {
  cudaError_t error;
  const char* name;
};

#define TAKT_EMULATED_NAME(name) \
  { name, #name }
constexpr ErrorName kNames[] = {
    TAKT_EMULATED_NAME(cudaSuccess),
    TAKT_EMULATED_NAME(cudaErrorInvalidValue),
    TAKT_EMULATED_NAME(cudaErrorMemoryAllocation),
    TAKT_EMULATED_NAME(cudaErrorInitializationError),
    TAKT_EMULATED_NAME(cudaErrorCudartUnloading),
    TAKT_EMULATED_NAME(cudaErrorProfilerDisabled),
    TAKT_EMULATED_NAME(cudaErrorProfilerNotInitialized),
    TAKT_EMULATED_NAME(cudaErrorProfilerAlreadyStarted),
    TAKT_EMULATED_NAME(cudaErrorProfilerAlreadyStopped),
    TAKT_EMULATED_NAME(cudaErrorInvalidConfiguration),
    TAKT_EMULATED_NAME(cudaErrorInvalidPitchValue),
    TAKT_EMULATED_NAME(cudaErrorInvalidSymbol),
    TAKT_EMULATED_NAME(cudaErrorInvalidHostPointer),
    TAKT_EMULATED_NAME(cudaErrorInvalidDevicePointer),
    TAKT_EMULATED_NAME(cudaErrorInvalidTexture),
    TAKT_EMULATED_NAME(cudaErrorInvalidTextureBinding),
    TAKT_EMULATED_NAME(cudaErrorInvalidChannelDescriptor),
    TAKT_EMULATED_NAME(cudaErrorInvalidMemcpyDirection),
    TAKT_EMULATED_NAME(cudaErrorAddressOfConstant),
    TAKT_EMULATED_NAME(cudaErrorTextureFetchFailed),
    TAKT_EMULATED_NAME(cudaErrorTextureNotBound),
    TAKT_EMULATED_NAME(cudaErrorSynchronizationError),
    TAKT_EMULATED_NAME(cudaErrorInvalidFilterSetting),
    TAKT_EMULATED_NAME(cudaErrorInvalidNormSetting),
    TAKT_EMULATED_NAME(cudaErrorMixedDeviceExecution),
    TAKT_EMULATED_NAME(cudaErrorNotYetImplemented),
    TAKT_EMULATED_NAME(cudaErrorMemoryValueTooLarge),
    TAKT_EMULATED_NAME(cudaErrorStubLibrary),
    TAKT_EMULATED_NAME(cudaErrorInsufficientDriver),
    TAKT_EMULATED_NAME(cudaErrorCallRequiresNewerDriver),
    TAKT_EMULATED_NAME(cudaErrorInvalidSurface),
    TAKT_EMULATED_NAME(cudaErrorDuplicateVariableName),
    TAKT_EMULATED_NAME(cudaErrorDuplicateTextureName),
    TAKT_EMULATED_NAME(cudaErrorDuplicateSurfaceName),
    TAKT_EMULATED_NAME(cudaErrorDevicesUnavailable),
    TAKT_EMULATED_NAME(cudaErrorIncompatibleDriverContext),
    TAKT_EMULATED_NAME(cudaErrorMissingConfiguration),
    TAKT_EMULATED_NAME(cudaErrorPriorLaunchFailure),
    TAKT_EMULATED_NAME(cudaErrorLaunchMaxDepthExceeded),
    TAKT_EMULATED_NAME(cudaErrorLaunchFileScopedTex),
    TAKT_EMULATED_NAME(cudaErrorLaunchFileScopedSurf),
    TAKT_EMULATED_NAME(cudaErrorSyncDepthExceeded),
    TAKT_EMULATED_NAME(cudaErrorLaunchPendingCountExceeded),
    TAKT_EMULATED_NAME(cudaErrorInvalidDeviceFunction),
    TAKT_EMULATED_NAME(cudaErrorNoDevice),
    TAKT_EMULATED_NAME(cudaErrorInvalidDevice),
    TAKT_EMULATED_NAME(cudaErrorDeviceNotLicensed),
    TAKT_EMULATED_NAME(cudaErrorSoftwareValidityNotEstablished),
    TAKT_EMULATED_NAME(cudaErrorStartupFailure),
    TAKT_EMULATED_NAME(cudaErrorInvalidKernelImage),
    TAKT_EMULATED_NAME(cudaErrorDeviceUninitialized),
    TAKT_EMULATED_NAME(cudaErrorMapBufferObjectFailed),
    TAKT_EMULATED_NAME(cudaErrorUnmapBufferObjectFailed),
    TAKT_EMULATED_NAME(cudaErrorArrayIsMapped),
    TAKT_EMULATED_NAME(cudaErrorAlreadyMapped),
    TAKT_EMULATED_NAME(cudaErrorNoKernelImageForDevice),
    TAKT_EMULATED_NAME(cudaErrorAlreadyAcquired),
    TAKT_EMULATED_NAME(cudaErrorNotMapped),
    TAKT_EMULATED_NAME(cudaErrorNotMappedAsArray),
    TAKT_EMULATED_NAME(cudaErrorNotMappedAsPointer),
    TAKT_EMULATED_NAME(cudaErrorECCUncorrectable),
    TAKT_EMULATED_NAME(cudaErrorUnsupportedLimit),
    TAKT_EMULATED_NAME(cudaErrorDeviceAlreadyInUse),
    TAKT_EMULATED_NAME(cudaErrorPeerAccessUnsupported),
    TAKT_EMULATED_NAME(cudaErrorInvalidPtx),
    TAKT_EMULATED_NAME(cudaErrorInvalidGraphicsContext),
    TAKT_EMULATED_NAME(cudaErrorNvlinkUncorrectable),
    TAKT_EMULATED_NAME(cudaErrorJitCompilerNotFound),
    TAKT_EMULATED_NAME(cudaErrorUnsupportedPtxVersion),
    TAKT_EMULATED_NAME(cudaErrorJitCompilationDisabled),
    TAKT_EMULATED_NAME(cudaErrorUnsupportedExecAffinity),
    TAKT_EMULATED_NAME(cudaErrorUnsupportedDevSideSync),
    TAKT_EMULATED_NAME(cudaErrorContained),
    TAKT_EMULATED_NAME(cudaErrorInvalidSource),
    TAKT_EMULATED_NAME(cudaErrorFileNotFound),
    TAKT_EMULATED_NAME(cudaErrorSharedObjectSymbolNotFound),
    TAKT_EMULATED_NAME(cudaErrorSharedObjectInitFailed),
    TAKT_EMULATED_NAME(cudaErrorOperatingSystem),
    TAKT_EMULATED_NAME(cudaErrorInvalidResourceHandle),
    TAKT_EMULATED_NAME(cudaErrorIllegalState),
    TAKT_EMULATED_NAME(cudaErrorLossyQuery),
    TAKT_EMULATED_NAME(cudaErrorSymbolNotFound),
    TAKT_EMULATED_NAME(cudaErrorNotReady),
    TAKT_EMULATED_NAME(cudaErrorIllegalAddress),
    TAKT_EMULATED_NAME(cudaErrorLaunchOutOfResources),
    TAKT_EMULATED_NAME(cudaErrorLaunchTimeout),
    TAKT_EMULATED_NAME(cudaErrorLaunchIncompatibleTexturing),
    TAKT_EMULATED_NAME(cudaErrorPeerAccessAlreadyEnabled),
    TAKT_EMULATED_NAME(cudaErrorPeerAccessNotEnabled),
    TAKT_EMULATED_NAME(cudaErrorSetOnActiveProcess),
    TAKT_EMULATED_NAME(cudaErrorContextIsDestroyed),
    TAKT_EMULATED_NAME(cudaErrorAssert),
    TAKT_EMULATED_NAME(cudaErrorTooManyPeers),
    TAKT_EMULATED_NAME(cudaErrorHostMemoryAlreadyRegistered),
    TAKT_EMULATED_NAME(cudaErrorHostMemoryNotRegistered),
    TAKT_EMULATED_NAME(cudaErrorHardwareStackError),
    TAKT_EMULATED_NAME(cudaErrorIllegalInstruction),
    TAKT_EMULATED_NAME(cudaErrorMisalignedAddress),
    TAKT_EMULATED_NAME(cudaErrorInvalidAddressSpace),
    TAKT_EMULATED_NAME(cudaErrorInvalidPc),
    TAKT_EMULATED_NAME(cudaErrorLaunchFailure),
    TAKT_EMULATED_NAME(cudaErrorCooperativeLaunchTooLarge),
    TAKT_EMULATED_NAME(cudaErrorTensorMemoryLeak),
    TAKT_EMULATED_NAME(cudaErrorNotPermitted),
    TAKT_EMULATED_NAME(cudaErrorNotSupported),
    TAKT_EMULATED_NAME(cudaErrorSystemNotReady),
    TAKT_EMULATED_NAME(cudaErrorSystemDriverMismatch),
    TAKT_EMULATED_NAME(cudaErrorCompatNotSupportedOnDevice),
    TAKT_EMULATED_NAME(cudaErrorMpsConnectionFailed),
    TAKT_EMULATED_NAME(cudaErrorMpsRpcFailure),
    TAKT_EMULATED_NAME(cudaErrorMpsServerNotReady),
    TAKT_EMULATED_NAME(cudaErrorMpsMaxClientsReached),
    TAKT_EMULATED_NAME(cudaErrorMpsMaxConnectionsReached),
    TAKT_EMULATED_NAME(cudaErrorMpsClientTerminated),
    TAKT_EMULATED_NAME(cudaErrorCdpNotSupported),
    TAKT_EMULATED_NAME(cudaErrorCdpVersionMismatch),
    TAKT_EMULATED_NAME(cudaErrorStreamCaptureUnsupported),
    TAKT_EMULATED_NAME(cudaErrorStreamCaptureInvalidated),
    TAKT_EMULATED_NAME(cudaErrorStreamCaptureMerge),
    TAKT_EMULATED_NAME(cudaErrorStreamCaptureUnmatched),
    TAKT_EMULATED_NAME(cudaErrorStreamCaptureUnjoined),
    TAKT_EMULATED_NAME(cudaErrorStreamCaptureIsolation),
    TAKT_EMULATED_NAME(cudaErrorStreamCaptureImplicit),
    TAKT_EMULATED_NAME(cudaErrorCapturedEvent),
    TAKT_EMULATED_NAME(cudaErrorStreamCaptureWrongThread),
    TAKT_EMULATED_NAME(cudaErrorTimeout),
    TAKT_EMULATED_NAME(cudaErrorGraphExecUpdateFailure),
    TAKT_EMULATED_NAME(cudaErrorExternalDevice),
    TAKT_EMULATED_NAME(cudaErrorInvalidClusterSize),
    TAKT_EMULATED_NAME(cudaErrorFunctionNotLoaded),
    TAKT_EMULATED_NAME(cudaErrorInvalidResourceType),
    TAKT_EMULATED_NAME(cudaErrorInvalidResourceConfiguration),
    TAKT_EMULATED_NAME(cudaErrorUnknown),
};
#undef TAKT_EMULATED_NAME

// cudaErrorInvalidDevicePointer is "invalid device pointer".
std::string words(std::string name) {
  const std::string prefix = "cudaError";
  if (name.rfind(prefix, 0) == 0) name.erase(0, prefix.size());
  std::string text;
  for (const char letter : name) {
    if (std::isupper(static_cast<unsigned char>(letter)) && !text.empty()) text += ' ';
    text += char(std::tolower(static_cast<unsigned char>(letter)));
  }
  return text;
}

// Those that people search for, as the real runtime says them.
std::map<cudaError_t, std::string> texts() {
  std::map<cudaError_t, std::string> all;
  for (const auto& [error, name] : kNames) all[error] = words(name);
  all[cudaSuccess] = "no error";
  all[cudaErrorInvalidValue] = "invalid argument";
  all[cudaErrorMemoryAllocation] = "out of memory";
  all[cudaErrorInvalidConfiguration] = "invalid configuration argument";
  all[cudaErrorInvalidDevice] = "invalid device ordinal";
  all[cudaErrorNoDevice] = "no CUDA-capable device is detected";
  all[cudaErrorNotReady] = "device not ready";
  all[cudaErrorIllegalAddress] = "an illegal memory access was encountered";
  all[cudaErrorLaunchFailure] = "unspecified launch failure";
  return all;
}

}  // namespace
}  // namespace takt::emulated

using namespace takt::emulated;

extern "C" {

cudaError_t cudaGetLastError() {
  if (const cudaError_t error = broken(current_device()); error != cudaSuccess) return error;
  const cudaError_t error = last_error();
  forget_last_error();
  return error;
}

cudaError_t cudaPeekAtLastError() {
  const cudaError_t error = broken(current_device());
  return error != cudaSuccess ? error : last_error();
}

const char* cudaGetErrorName(cudaError_t error) {
  for (const auto& [known, name] : kNames)
    if (known == error) return name;
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  static const auto& all = *new std::map<cudaError_t, std::string>(texts());
  const auto found = all.find(error);
  return found != all.end() ? found->second.c_str() : "unrecognized error code";
}

}  // extern "C"
