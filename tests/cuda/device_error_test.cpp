// Codes of NVIDIA's libraries become the fault that decides the exit code, and the message names the call.
#include <cublasLt.h>
#include <cudnn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nccl.h>

#include "core/device/cuda/error.h"
#include "tests/cuda/error_of.h"

namespace takt {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(CudaError, SuccessPasses) {
  EXPECT_NO_THROW(require_cuda(cudaSuccess, "f()"));
  EXPECT_NO_THROW(require_cublas(CUBLAS_STATUS_SUCCESS, "f()"));
  EXPECT_NO_THROW(require_cudnn(CUDNN_STATUS_SUCCESS, "f()"));
  EXPECT_NO_THROW(require_nccl(ncclSuccess, "f()"));
  EXPECT_NO_THROW(require_nccl(ncclInProgress, "f()"));
}

TEST(CudaError, CodesAreFaults) {
  const auto of = [](cudaError_t code) { return error_of([&] { require_cuda(code, "f()"); }).fault(); };
  EXPECT_EQ(of(cudaErrorMemoryAllocation), Fault::kMemory);
  EXPECT_EQ(of(cudaErrorInsufficientDriver), Fault::kConfig);
  EXPECT_EQ(of(cudaErrorNoDevice), Fault::kConfig);
  EXPECT_EQ(of(cudaErrorNoKernelImageForDevice), Fault::kConfig);
  EXPECT_EQ(of(cudaErrorNvlinkUncorrectable), Fault::kPeer);
  EXPECT_EQ(of(cudaErrorECCUncorrectable), Fault::kCorruption);
  EXPECT_EQ(of(cudaErrorIllegalAddress), Fault::kBug);
}

TEST(CudaError, CodesOfTheLibrariesAreFaults) {
  EXPECT_EQ(error_of([] { require_cublas(CUBLAS_STATUS_ALLOC_FAILED, "f()"); }).fault(), Fault::kMemory);
  EXPECT_EQ(error_of([] { require_cublas(CUBLAS_STATUS_NOT_INITIALIZED, "f()"); }).fault(), Fault::kConfig);
  EXPECT_EQ(error_of([] { require_cublas(CUBLAS_STATUS_INVALID_VALUE, "f()"); }).fault(), Fault::kBug);
  EXPECT_EQ(error_of([] { require_cudnn(CUDNN_STATUS_ALLOC_FAILED, "f()"); }).fault(), Fault::kMemory);
  EXPECT_EQ(error_of([] { require_cudnn(CUDNN_STATUS_BAD_PARAM, "f()"); }).fault(), Fault::kBug);
  EXPECT_EQ(error_of([] { require_nccl(ncclRemoteError, "f()"); }).fault(), Fault::kPeer);
  EXPECT_EQ(error_of([] { require_nccl(ncclSystemError, "f()"); }).fault(), Fault::kPeer);
  EXPECT_EQ(error_of([] { require_nccl(ncclInvalidArgument, "f()"); }).fault(), Fault::kBug);
}

TEST(CudaError, TheMessageNamesTheCall) {
  const Error error = error_of([] { require_cuda(cudaErrorInvalidValue, "cudaMemcpyAsync(to, from, 4)"); });
  EXPECT_THAT(error.what(), StartsWith("cudaMemcpyAsync: "));
  EXPECT_THAT(error.what(), HasSubstr("cudaErrorInvalidValue"));
}

TEST(CudaError, TheNodeIsNamedAndTheFaultStays) {
  const Error error =
      error_of([] { for_node("blocks.3.mlp.up", [] { fail(Fault::kMemory, "too large"); }); });
  EXPECT_STREQ(error.what(), "node 'blocks.3.mlp.up': too large");
  EXPECT_EQ(error.fault(), Fault::kMemory);
  EXPECT_EQ(for_node("n", [] { return 5; }), 5);
}

}  // namespace
}  // namespace takt
