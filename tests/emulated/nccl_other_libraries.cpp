// Texts of libraries that core/device/cuda/error.cpp knows and tests of NCCL do not use. Weak: their doubles come first where
// they are built.
#include <cublasLt.h>
#include <cudnn.h>

extern "C" {

__attribute__((weak)) const char* cublasLtGetStatusString(cublasStatus_t) {
  return "no cuBLASLt here";
}

__attribute__((weak)) const char* cudnnGetErrorString(cudnnStatus_t) {
  return "no cuDNN here";
}

}  // extern "C"
