// What the cuBLASLt double keeps in the library's opaque descriptors.
#pragma once

#include <cublasLt.h>

#include <cstddef>
#include <cstdint>

namespace takt::emulated {

// In the opaque words themselves, so that descriptors on the caller's stack work as created ones do.
struct MatmulDescriptor {
  cublasComputeType_t compute_type;
  cudaDataType_t scale_type;
  int32_t pointer_mode = CUBLASLT_POINTER_MODE_HOST;
  int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;
  int64_t bias_batch_stride = 0;
  int32_t bias_type = -1;  // -1: that of D
  int32_t aux_type = -1;
  void* aux = nullptr;
  int64_t aux_ld = 0, aux_batch_stride = 0;
};

struct MatrixLayout {
  uint32_t type;
  int32_t order = CUBLASLT_ORDER_COL;
  uint64_t rows, cols;
  int64_t ld;
  int32_t num_batches = 1;
  int64_t batch_stride = 0;

  int64_t at(int64_t row, int64_t column) const {
    return order == CUBLASLT_ORDER_COL ? column * ld + row : row * ld + column;
  }
};

struct MatmulPreference {
  uint64_t max_workspace_bytes = 0;
  uint32_t reduction_schemes = CUBLASLT_REDUCTION_SCHEME_MASK;  // the double has none: it never cuts along k
  uint32_t alignment_a = 256, alignment_b = 256, alignment_c = 256, alignment_d = 256;
};

inline MatmulDescriptor& descriptor_of(cublasLtMatmulDesc_t desc) {
  return *reinterpret_cast<MatmulDescriptor*>(desc);
}
inline MatrixLayout& layout_of(cublasLtMatrixLayout_t layout) {
  return *reinterpret_cast<MatrixLayout*>(layout);
}
inline MatmulPreference& preference_of(cublasLtMatmulPreference_t preference) {
  return *reinterpret_cast<MatmulPreference*>(preference);
}

// Bytes of an element; 0: the double has no such type.
std::size_t element_bytes(uint32_t type);

// From the first to the last element of all batches.
std::size_t span_bytes(const MatrixLayout& layout);

}  // namespace takt::emulated
