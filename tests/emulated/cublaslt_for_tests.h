// What the tests of the cuBLASLt double are written with: matrices on the device, a product and its descriptors.
#pragma once

#include <cublasLt.h>

#include <bit>
#include <cstring>

#include "tests/emulated/cublaslt_support.h"
#include "tests/emulated/emulated_test.h"

#define EXPECT_BLAS(call) EXPECT_EQ(call, CUBLAS_STATUS_SUCCESS) << last_matmul_refusal() << all_diagnoses()

namespace takt::emulated::test {

inline float to_bf16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7FFFu + (bits >> 16 & 1u)) & 0xFFFF0000u);
}

// Elements as a type stores them, on the device.
class Matrix {
 public:
  Matrix(const std::vector<float>& values, bool bf16)
      : bf16_(bf16), num_(values.size()), bytes_(packed(values, bf16)) {}
  void* data() const { return bytes_.get(); }
  std::vector<float> values() const {
    const std::vector<uint8_t> bytes = bytes_.values();
    std::vector<float> values(num_);
    for (std::size_t i = 0; i < num_; ++i) {
      uint32_t bits = 0;
      std::memcpy(bf16_ ? reinterpret_cast<uint8_t*>(&bits) + 2 : reinterpret_cast<uint8_t*>(&bits),
                  bytes.data() + i * (bf16_ ? 2 : 4), bf16_ ? 2 : 4);
      values[i] = std::bit_cast<float>(bits);
    }
    return values;
  }

 private:
  static std::vector<uint8_t> packed(const std::vector<float>& values, bool bf16) {
    std::vector<uint8_t> bytes(values.size() * (bf16 ? 2 : 4));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto bits = std::bit_cast<uint32_t>(bf16 ? to_bf16(values[i]) : values[i]);
      std::memcpy(bytes.data() + i * (bf16 ? 2 : 4), reinterpret_cast<const uint8_t*>(&bits) + (bf16 ? 2 : 0),
                  bf16 ? 2 : 4);
    }
    return bytes;
  }
  bool bf16_;
  std::size_t num_;
  DeviceBuffer<uint8_t> bytes_;
};

inline std::vector<float> random_values(std::size_t num, uint32_t seed) {
  std::vector<float> values(num);
  for (float& x : values) {
    seed = seed * 1664525u + 1013904223u;
    x = to_bf16(static_cast<float>(seed >> 8) / static_cast<float>(1 << 23) - 1.0f);  // exact in both types
  }
  return values;
}

// D = op(A) op(B) + beta C with an epilogue; column-major, leading dimensions larger than needed.
struct Product {
  int64_t m = 17, n = 9, k = 21, num_batches = 1;
  bool transpose_a = false, transpose_b = false, bf16 = false, bf16_result = false;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  float alpha = 1, beta = 0;

  int64_t rows_a() const { return transpose_a ? k : m; }
  int64_t cols_a() const { return transpose_a ? m : k; }
  int64_t rows_b() const { return transpose_b ? n : k; }
  int64_t cols_b() const { return transpose_b ? k : n; }
  int64_t ld_a() const { return rows_a() + 3; }
  int64_t ld_b() const { return rows_b() + 1; }
  int64_t ld_d() const { return m + 2; }
  int64_t ld_aux() const { return (m + 7) / 8 * 8; }
  std::size_t size_a() const { return static_cast<std::size_t>(ld_a() * cols_a()); }
  std::size_t size_b() const { return static_cast<std::size_t>(ld_b() * cols_b()); }
  std::size_t size_d() const { return static_cast<std::size_t>(ld_d() * n); }
};

class Descriptors {
 public:
  explicit Descriptors(const Product& p) {
    const cudaDataType_t in = p.bf16 ? CUDA_R_16BF : CUDA_R_32F,
                         out = p.bf16_result ? CUDA_R_16BF : CUDA_R_32F;
    EXPECT_BLAS(cublasLtMatmulDescCreate(&desc, p.compute, CUDA_R_32F));
    layout(a, in, p.rows_a(), p.cols_a(), p.ld_a(), static_cast<int64_t>(p.size_a()), p.num_batches);
    layout(b, in, p.rows_b(), p.cols_b(), p.ld_b(), static_cast<int64_t>(p.size_b()), p.num_batches);
    layout(d, out, p.m, p.n, p.ld_d(), static_cast<int64_t>(p.size_d()), p.num_batches);
    set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t{p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N});
    set(CUBLASLT_MATMUL_DESC_TRANSB, int32_t{p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N});
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, p.epilogue);
    EXPECT_BLAS(cublasLtMatmulPreferenceCreate(&preference));
    const uint64_t workspace = 8192;
    EXPECT_BLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                     &workspace, sizeof workspace));
  }
  ~Descriptors() {
    for (cublasLtMatrixLayout_t layout : {a, b, d}) cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulDescDestroy(desc);
    cublasLtMatmulPreferenceDestroy(preference);
  }
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;

  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    EXPECT_BLAS(cublasLtMatmulDescSetAttribute(desc, attribute, &value, sizeof value));
  }
  cublasStatus_t heuristic(int num_wanted, cublasLtMatmulHeuristicResult_t* results, int* num_found) const {
    return cublasLtMatmulAlgoGetHeuristic(nullptr, desc, a, b, d, d, preference, num_wanted, results,
                                          num_found);
  }

  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;

 private:
  static void layout(cublasLtMatrixLayout_t& made, cudaDataType_t type, int64_t rows, int64_t cols,
                     int64_t ld, int64_t stride, int64_t num_batches) {
    EXPECT_BLAS(cublasLtMatrixLayoutCreate(&made, type, static_cast<uint64_t>(rows),
                                           static_cast<uint64_t>(cols), ld));
    const auto batches = static_cast<int32_t>(num_batches);
    EXPECT_BLAS(
        cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batches, sizeof batches));
    EXPECT_BLAS(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                                 sizeof stride));
  }
};

}  // namespace takt::emulated::test
