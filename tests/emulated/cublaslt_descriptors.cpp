// cuBLASLt's descriptors. An attribute must have exactly its documented size; one that the double does not know aborts.
#include "tests/emulated/cublaslt_descriptors.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>

#include "tests/emulated/diagnosis.h"
#include "tests/emulated/fault_injection.h"

namespace takt::emulated {
namespace {

static_assert(sizeof(MatmulDescriptor) <= sizeof(cublasLtMatmulDescOpaque_t));
static_assert(sizeof(MatrixLayout) <= sizeof(cublasLtMatrixLayoutOpaque_t));
static_assert(sizeof(MatmulPreference) <= sizeof(cublasLtMatmulPreferenceOpaque_t));

// Where an attribute's value lies.
struct Field {
  void* value = nullptr;
  std::size_t num_bytes = 0;
};
template <class T>
Field field(T& value) {
  return {&value, sizeof value};
}

Field field_of(MatmulDescriptor& d, int attribute) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE:
      return field(d.compute_type);
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
      return field(d.scale_type);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
      return field(d.pointer_mode);
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return field(d.transpose_a);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return field(d.transpose_b);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return field(d.epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return field(d.bias);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE:
      return field(d.bias_batch_stride);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return field(d.bias_type);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return field(d.aux);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      return field(d.aux_ld);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE:
      return field(d.aux_batch_stride);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE:
      return field(d.aux_type);
    default:
      forbidden("cublasLt: the double has no attribute " + std::to_string(attribute) +
                " of a matmul descriptor");
  }
}

Field field_of(MatrixLayout& l, int attribute) {
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
      return field(l.type);
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
      return field(l.order);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
      return field(l.rows);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
      return field(l.cols);
    case CUBLASLT_MATRIX_LAYOUT_LD:
      return field(l.ld);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return field(l.num_batches);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return field(l.batch_stride);
    default:
      forbidden("cublasLt: the double has no attribute " + std::to_string(attribute) + " of a matrix layout");
  }
}

Field field_of(MatmulPreference& p, int attribute) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return field(p.max_workspace_bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return field(p.reduction_schemes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return field(p.alignment_a);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return field(p.alignment_b);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return field(p.alignment_c);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return field(p.alignment_d);
    default:
      forbidden("cublasLt: the double has no attribute " + std::to_string(attribute) +
                " of a matmul preference");
  }
}

cublasStatus_t set(const Field& field, const char* call, const void* value, std::size_t num_bytes) {
  if (const auto fault = injected_fault(call)) return static_cast<cublasStatus_t>(*fault);
  if (value == nullptr || num_bytes != field.num_bytes) {
    diagnose(std::string(call) + ": got " + std::to_string(num_bytes) + " bytes, wanted " +
             std::to_string(field.num_bytes));
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  std::memcpy(field.value, value, num_bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t get(const Field& field, void* value, std::size_t num_bytes, std::size_t* num_written) {
  if (num_written != nullptr) *num_written = field.num_bytes;
  if (num_bytes == 0 && num_written != nullptr) return CUBLAS_STATUS_SUCCESS;
  if (value == nullptr || num_bytes != field.num_bytes) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(value, field.value, num_bytes);
  return CUBLAS_STATUS_SUCCESS;
}

// A descriptor on the heap with defaults, as Create makes it.
template <class Opaque, class Content>
cublasStatus_t create(const char* call, Opaque** made, const Content& content) {
  if (const auto fault = injected_fault(call)) return static_cast<cublasStatus_t>(*fault);
  *made = new Opaque();
  new (*made) Content(content);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

std::size_t element_bytes(uint32_t type) {
  return type == CUDA_R_32F ? 4 : type == CUDA_R_16BF ? 2 : 0;
}

std::size_t span_bytes(const MatrixLayout& l) {
  const bool by_column = l.order == CUBLASLT_ORDER_COL;
  const auto outer = static_cast<int64_t>(by_column ? l.cols : l.rows);
  const auto inner = static_cast<int64_t>(by_column ? l.rows : l.cols);
  const int64_t elements = (l.num_batches - 1) * l.batch_stride + (outer - 1) * l.ld + inner;
  return static_cast<std::size_t>(elements) * element_bytes(l.type);
}

}  // namespace takt::emulated

using namespace takt::emulated;

extern "C" {

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t desc, size_t size,
                                               cublasComputeType_t compute_type, cudaDataType_t scale_type) {
  if (size != sizeof(*desc)) return CUBLAS_STATUS_INVALID_VALUE;
  new (desc) MatmulDescriptor{compute_type, scale_type};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute_type,
                                        cudaDataType_t scale_type) {
  return create("cublasLtMatmulDescCreate", desc, MatmulDescriptor{compute_type, scale_type});
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete desc;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              size_t num_bytes) {
  return set(field_of(descriptor_of(desc), attribute), "cublasLtMatmulDescSetAttribute", value, num_bytes);
}

cublasStatus_t cublasLtMatmulDescGetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute, void* value,
                                              size_t num_bytes, size_t* num_written) {
  return get(field_of(descriptor_of(desc), attribute), value, num_bytes, num_written);
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t size,
                                                 cudaDataType type, uint64_t rows, uint64_t cols,
                                                 int64_t ld) {
  if (size != sizeof(*layout)) return CUBLAS_STATUS_INVALID_VALUE;
  new (layout) MatrixLayout{.type = static_cast<uint32_t>(type), .rows = rows, .cols = cols, .ld = ld};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
  return create("cublasLtMatrixLayoutCreate", layout,
                MatrixLayout{.type = static_cast<uint32_t>(type), .rows = rows, .cols = cols, .ld = ld});
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                size_t num_bytes) {
  return set(field_of(layout_of(layout), attribute), "cublasLtMatrixLayoutSetAttribute", value, num_bytes);
}

cublasStatus_t cublasLtMatrixLayoutGetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, void* value,
                                                size_t num_bytes, size_t* num_written) {
  return get(field_of(layout_of(layout), attribute), value, num_bytes, num_written);
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference, size_t size) {
  if (size != sizeof(*preference)) return CUBLAS_STATUS_INVALID_VALUE;
  new (preference) MatmulPreference();
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return create("cublasLtMatmulPreferenceCreate", preference, MatmulPreference());
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t num_bytes) {
  return set(field_of(preference_of(preference), attribute), "cublasLtMatmulPreferenceSetAttribute", value,
             num_bytes);
}

cublasStatus_t cublasLtMatmulPreferenceGetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    void* value, size_t num_bytes, size_t* num_written) {
  return get(field_of(preference_of(preference), attribute), value, num_bytes, num_written);
}
}
