// The list of supported products: what cuBLAS 13 documents, as far as Takt has use for it.
//
// Types     NVIDIA's cuBLAS documentation, 3.4.17 cublasLtMatmul(), "Datatypes Supported", rows with scale type CUDA_R_32F:
//             CUBLAS_COMPUTE_32F, _32F_PEDANTIC                       A, B      C, D      bias
//                                                                     16BF      16BF      16BF
//                                                                     16BF      32F       32F
//                                                                     32F       32F       32F
//             CUBLAS_COMPUTE_32F_FAST_TF32, _FAST_16BF                32F       32F       32F
// Bias      cublasLt.h, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: the type of D but for int8 and fp8; length: rows of D, packed.
// Aux       cublasLt.h, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, _BATCH_STRIDE: for GELU divisible by 8, at least the rows of
//           D; its type is that of D.
// Order     the same, note 6: epilogues that combine an activation with a bias want a column-major D.
// Stricter than the documents: every epilogue wants a column-major D, BGRADA an A and BGRADB a B whose neighbours in memory
// are neighbours along the gradient. That is how the epilogues are used everywhere; otherwise nothing is promised.
#include "tests/emulated/cublaslt_support.h"

#include <array>
#include <sstream>

namespace takt::emulated {
namespace {

template <class... Parts>
MatmulRefusal refuse(cublasStatus_t status, const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return {status, text.str()};
}
template <class... Parts>
MatmulRefusal invalid(const Parts&... parts) {
  return refuse(CUBLAS_STATUS_INVALID_VALUE, parts...);
}
template <class... Parts>
MatmulRefusal unsupported(const Parts&... parts) {
  return refuse(CUBLAS_STATUS_NOT_SUPPORTED, parts...);
}

struct TypeRow {
  cublasComputeType_t compute;
  uint32_t operands, results;
};
constexpr std::array kTypes = {
    TypeRow{CUBLAS_COMPUTE_32F, CUDA_R_16BF, CUDA_R_16BF},
    TypeRow{CUBLAS_COMPUTE_32F, CUDA_R_16BF, CUDA_R_32F},
    TypeRow{CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_32F},
    TypeRow{CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_16BF, CUDA_R_16BF},
    TypeRow{CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_16BF, CUDA_R_32F},
    TypeRow{CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_32F, CUDA_R_32F},
    TypeRow{CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F, CUDA_R_32F},
    TypeRow{CUBLAS_COMPUTE_32F_FAST_16BF, CUDA_R_32F, CUDA_R_32F},
};

constexpr std::array<uint32_t, 12> kEpilogues = {
    CUBLASLT_EPILOGUE_DEFAULT,     CUBLASLT_EPILOGUE_BIAS,          CUBLASLT_EPILOGUE_RELU,
    CUBLASLT_EPILOGUE_RELU_BIAS,   CUBLASLT_EPILOGUE_GELU,          CUBLASLT_EPILOGUE_GELU_BIAS,
    CUBLASLT_EPILOGUE_GELU_AUX,    CUBLASLT_EPILOGUE_GELU_AUX_BIAS, CUBLASLT_EPILOGUE_DGELU,
    CUBLASLT_EPILOGUE_DGELU_BGRAD, CUBLASLT_EPILOGUE_BGRADA,        CUBLASLT_EPILOGUE_BGRADB};

MatmulRefusal layouts(const MatmulProblem& p) {
  struct Named {
    const char* name;
    const MatrixLayout& layout;
  };
  for (const Named& x : {Named{"A", p.a}, Named{"B", p.b}, Named{"C", p.c}, Named{"D", p.d}}) {
    const MatrixLayout& l = x.layout;
    if (l.order != CUBLASLT_ORDER_COL && l.order != CUBLASLT_ORDER_ROW)
      return unsupported(x.name, " has memory order ", l.order, ", wanted columns or rows");
    const uint64_t least = l.order == CUBLASLT_ORDER_COL ? l.rows : l.cols;
    if (l.rows == 0 || l.cols == 0 || l.ld < static_cast<int64_t>(least))
      return invalid(x.name, " is ", l.rows, " x ", l.cols, " with leading dimension ", l.ld);
    if (l.num_batches != p.d.num_batches)
      return invalid(x.name, " has ", l.num_batches, " batches, D has ", p.d.num_batches);
  }
  const bool ta = p.desc.transpose_a != CUBLAS_OP_N, tb = p.desc.transpose_b != CUBLAS_OP_N;
  const uint64_t m = ta ? p.a.cols : p.a.rows, k = ta ? p.a.rows : p.a.cols;
  const uint64_t k_of_b = tb ? p.b.cols : p.b.rows, n = tb ? p.b.rows : p.b.cols;
  if (k != k_of_b || p.d.rows != m || p.d.cols != n || p.c.rows != m || p.c.cols != n)
    return invalid("op(A) is ", m, " x ", k, ", op(B) is ", k_of_b, " x ", n, ", C is ", p.c.rows, " x ",
                   p.c.cols, ", D is ", p.d.rows, " x ", p.d.cols);
  if (p.c.order != p.d.order) return unsupported("C and D have different memory orders");
  return {};
}

MatmulRefusal types(const MatmulProblem& p) {
  if (p.a.type != p.b.type || p.c.type != p.d.type || p.desc.scale_type != CUDA_R_32F)
    return unsupported("types of A, B, C, D and scale: ", p.a.type, ", ", p.b.type, ", ", p.c.type, ", ",
                       p.d.type, ", ", p.desc.scale_type);
  for (const TypeRow& row : kTypes)
    if (row.compute == p.desc.compute_type && row.operands == p.a.type && row.results == p.d.type) return {};
  return unsupported("compute type ", p.desc.compute_type, " with operands ", p.a.type, " and results ",
                     p.d.type);
}

MatmulRefusal auxiliaries(const MatmulProblem& p) {
  if (p.reads_bias() || p.writes_bias()) {
    if (p.bias_type() != p.d.type)
      return unsupported("a bias of type ", p.bias_type(), " with D of type ", p.d.type);
    if (p.desc.bias == nullptr) return invalid("epilogue ", p.desc.epilogue, " without a bias pointer");
    if (reinterpret_cast<uintptr_t>(p.desc.bias) % 16 != 0)
      return unsupported("the bias is not aligned to 16 bytes");
  }
  if (!p.has_aux()) return {};
  if (p.aux_type() != p.d.type) return invalid("aux of type ", p.aux_type(), " with D of type ", p.d.type);
  if (p.desc.aux == nullptr) return invalid("epilogue ", p.desc.epilogue, " without an aux pointer");
  if (p.desc.aux_ld % 8 != 0 || p.desc.aux_ld < p.m() || p.desc.aux_batch_stride % 8 != 0)
    return invalid("aux with leading dimension ", p.desc.aux_ld, " and batch stride ",
                   p.desc.aux_batch_stride, ", wanted multiples of 8, at least ", p.m());
  if (reinterpret_cast<uintptr_t>(p.desc.aux) % 16 != 0) return unsupported("aux is not aligned to 16 bytes");
  return {};
}

MatmulRefusal epilogues(const MatmulProblem& p) {
  bool listed = false;
  for (const uint32_t epilogue : kEpilogues) listed |= epilogue == p.desc.epilogue;
  if (!listed) return unsupported("epilogue ", p.desc.epilogue, " is not on the list");
  if (p.desc.epilogue == CUBLASLT_EPILOGUE_DEFAULT) return {};
  if (p.d.order != CUBLASLT_ORDER_COL) return unsupported("an epilogue with a row-major D");
  const bool a_along_m = (p.a.order == CUBLASLT_ORDER_COL) == (p.desc.transpose_a == CUBLAS_OP_N);
  const bool b_along_n = (p.b.order == CUBLASLT_ORDER_COL) != (p.desc.transpose_b == CUBLAS_OP_N);
  if (p.has(CUBLASLT_EPILOGUE_BGRADA) && !a_along_m)
    return unsupported("BGRADA wants the rows of op(A) side by side");
  if (p.has(CUBLASLT_EPILOGUE_BGRADB) && !b_along_n)
    return unsupported("BGRADB wants the columns of op(B) side by side");
  return auxiliaries(p);
}

}  // namespace

MatmulRefusal refusal_of(const MatmulProblem& p) {
  if (p.desc.pointer_mode != CUBLASLT_POINTER_MODE_HOST)
    return unsupported("the double takes alpha and beta from the host");
  for (const auto check : {layouts, types, epilogues})
    if (MatmulRefusal refusal = check(p); !refusal.reason.empty()) return refusal;
  return {};
}

std::string& last_matmul_refusal() {
  thread_local std::string reason;
  return reason;
}

}  // namespace takt::emulated
