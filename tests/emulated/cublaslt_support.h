// Which products the real cuBLASLt documents as supported. What is not on the list is refused.
#pragma once

#include <string>

#include "tests/emulated/cublaslt_descriptors.h"

namespace takt::emulated {

struct MatmulProblem {
  MatmulDescriptor desc;
  MatrixLayout a, b, c, d;

  int64_t m() const { return static_cast<int64_t>(d.rows); }
  int64_t n() const { return static_cast<int64_t>(d.cols); }
  int64_t k() const { return static_cast<int64_t>(desc.transpose_a == CUBLAS_OP_N ? a.cols : a.rows); }
  bool has(uint32_t epilogue_bits) const { return (desc.epilogue & epilogue_bits) == epilogue_bits; }
  bool has_aux() const { return has(128); }
  bool reads_bias() const { return has(CUBLASLT_EPILOGUE_BIAS); }
  bool writes_bias() const {
    return has(16) || has(CUBLASLT_EPILOGUE_BGRADA) || has(CUBLASLT_EPILOGUE_BGRADB);
  }
  int64_t bias_length() const { return has(CUBLASLT_EPILOGUE_BGRADB) ? n() : m(); }
  uint32_t bias_type() const { return desc.bias_type < 0 ? d.type : static_cast<uint32_t>(desc.bias_type); }
  uint32_t aux_type() const { return desc.aux_type < 0 ? d.type : static_cast<uint32_t>(desc.aux_type); }
};

// Why the library refuses, with its code: INVALID_VALUE for what contradicts itself, NOT_SUPPORTED for what nobody wrote.
struct MatmulRefusal {
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
  std::string reason = {};  // empty: supported
};
MatmulRefusal refusal_of(const MatmulProblem& problem);

// Of the calling thread's last call that refused a product: the real library does not say, but a test wants to know.
std::string& last_matmul_refusal();

}  // namespace takt::emulated
