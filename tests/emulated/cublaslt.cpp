// cuBLASLt double: choosing an algorithm and running it. Real header, replaced when linking.
//
// The heuristic offers three algorithms that differ in workspace only and give the same bits. What the real library
// promises of a workspace is nothing, so every run fills it with NaN. An algorithm is bound to its problem and to the
// alignments of the preference with which it was asked for (256 bytes by default): using it otherwise fails.
#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>

#include "tests/emulated/allocations.h"
#include "tests/emulated/cublaslt_multiply.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/fault_injection.h"
#include "tests/emulated/stream_queue.h"

namespace takt::emulated {
namespace {

constexpr std::array<uint64_t, 3> kWorkspaceBytes = {0, 4096, 65536};  // of algorithms 0, 1, 2
constexpr uint64_t kMark = 0x7A6B74426C617344;

struct Algorithm {
  uint64_t mark = kMark;
  uint64_t number = 0;
  uint64_t problem = 0;                     // hash
  std::array<uint32_t, 4> alignments = {};  // of A, B, C, D
  std::array<uint64_t, 3> unused = {};
};
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t));

// FNV-1a over what an algorithm depends on: not the pointers.
uint64_t hash_of(MatmulProblem p) {
  uint64_t hash = 1469598103934665603u;
  const auto mix = [&](auto value) { hash = (hash ^ static_cast<uint64_t>(value)) * 1099511628211u; };
  for (const MatrixLayout* l : {&p.a, &p.b, &p.c, &p.d}) {
    mix(l->type), mix(l->order), mix(l->rows), mix(l->cols), mix(l->ld), mix(l->num_batches),
        mix(l->batch_stride);
  }
  mix(p.desc.compute_type), mix(p.desc.transpose_a), mix(p.desc.transpose_b), mix(p.desc.epilogue);
  return hash;
}

cublasStatus_t refuse(cublasStatus_t status, const std::string& reason) {
  last_matmul_refusal() = reason;
  return status;
}
cublasStatus_t refuse_run(cublasStatus_t status, const std::string& reason) {
  diagnose("cublasLtMatmul: " + reason);
  return refuse(status, reason);
}

bool is_aligned(const void* pointer, uint64_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

// Why the algorithm cannot run this problem on these pointers; empty: it can.
std::string algorithm_problem(const Algorithm& algorithm, const MatmulProblem& p, const MatmulPointers& at,
                              const void* workspace, std::size_t workspace_bytes) {
  if (algorithm.mark != kMark || algorithm.number >= kWorkspaceBytes.size()) return "this is no algorithm";
  if (algorithm.problem != hash_of(p)) return "the algorithm was made for another problem";
  if (workspace_bytes < kWorkspaceBytes[algorithm.number])
    return "the algorithm wants " + std::to_string(kWorkspaceBytes[algorithm.number]) +
           " bytes of workspace, got " + std::to_string(workspace_bytes);
  if (!is_aligned(workspace, 256)) return "the workspace is not aligned to 256 bytes";
  const std::array<const void*, 4> pointers = {at.a, at.b, at.beta != 0 ? at.c : nullptr, at.d};
  for (std::size_t i = 0; i < pointers.size(); ++i)
    if (!is_aligned(pointers[i], algorithm.alignments[i]))
      return std::string("matrix ") + "ABCD"[i] + " is not aligned to the " +
             std::to_string(algorithm.alignments[i]) + " bytes that the algorithm was asked for";
  return {};
}

// Elements are addressed whole.
std::string element_problem(const MatmulProblem& p, const MatmulPointers& at) {
  if (at.d == at.c && at.beta != 0 && (p.c.ld != p.d.ld || p.c.batch_stride != p.d.batch_stride))
    return "C lies in D with another layout";
  for (const auto& [pointer, type] : {std::pair(at.a, p.a.type), std::pair(at.b, p.b.type),
                                      std::pair(static_cast<const void*>(at.d), p.d.type)})
    if (!is_aligned(pointer, element_bytes(type))) return "a matrix begins inside of an element";
  return {};
}

Operation operation_of(const MatmulProblem& p, const MatmulPointers& at, void* workspace,
                       std::size_t workspace_bytes) {
  Operation operation;
  operation.name = "cublasLtMatmul";
  operation.instrumented = true;
  operation.run = [=] {
    if (workspace_bytes > 0) std::memset(workspace, 0xFF, workspace_bytes);
    multiply(p, at);
    return cudaSuccess;
  };
  operation.reads = {{at.a, span_bytes(p.a)}, {at.b, span_bytes(p.b)}};
  operation.writes = {{at.d, span_bytes(p.d)}};
  if (at.beta != 0) operation.reads.push_back({at.c, span_bytes(p.c)});
  if (workspace_bytes > 0) operation.writes.push_back({workspace, workspace_bytes});
  const auto batches = static_cast<std::size_t>(p.d.num_batches - 1);
  const Range bias{p.desc.bias, (batches * static_cast<std::size_t>(p.desc.bias_batch_stride) +
                                 static_cast<std::size_t>(p.bias_length())) *
                                    element_bytes(p.bias_type())};
  const Range aux{p.desc.aux, (batches * static_cast<std::size_t>(p.desc.aux_batch_stride) +
                               static_cast<std::size_t>((p.n() - 1) * p.desc.aux_ld + p.m())) *
                                  element_bytes(p.aux_type())};
  if (p.reads_bias()) operation.reads.push_back(bias);
  if (p.writes_bias()) operation.writes.push_back(bias);
  if (p.has_aux()) (p.has(CUBLASLT_EPILOGUE_GELU) ? operation.writes : operation.reads).push_back(aux);
  return operation;
}

cublasStatus_t enqueue_checked(cudaStream_t stream, Operation operation) {
  const int device = device_of(stream);
  for (const auto* ranges : {&operation.reads, &operation.writes})
    for (const Range& range : *ranges)
      if (!check_range(range.pointer, range.num_bytes, device, "cublasLtMatmul"))
        return CUBLAS_STATUS_INVALID_VALUE;
  return enqueue(stream, std::move(operation)) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                              : CUBLAS_STATUS_EXECUTION_FAILED;
}

struct Handle {
  int device;
};

}  // namespace
}  // namespace takt::emulated

using namespace takt::emulated;

extern "C" {

size_t cublasLtGetVersion() {
  return CUBLAS_VERSION;
}

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "success" : last_matmul_refusal().c_str();
}

const char* cublasLtGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "CUBLAS_STATUS_SUCCESS" : "CUBLAS_STATUS";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (const auto fault = injected_fault("cublasLtCreate")) return static_cast<cublasStatus_t>(*fault);
  *handle = reinterpret_cast<cublasLtHandle_t>(new Handle{current_device()});
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete reinterpret_cast<Handle*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int num_wanted,
                                              cublasLtMatmulHeuristicResult_t* results, int* num_found) {
  if (const auto fault = injected_fault("cublasLtMatmulAlgoGetHeuristic"))
    return static_cast<cublasStatus_t>(*fault);
  const MatmulProblem problem{descriptor_of(desc), layout_of(a), layout_of(b), layout_of(c), layout_of(d)};
  *num_found = 0;
  if (num_wanted < 1) return refuse(CUBLAS_STATUS_INVALID_VALUE, "no algorithm is asked for");
  if (const MatmulRefusal refusal = refusal_of(problem); !refusal.reason.empty())
    return refuse(refusal.status, refusal.reason);
  const MatmulPreference& wish = preference_of(preference);
  for (uint64_t number = 0; number < kWorkspaceBytes.size() && *num_found < num_wanted; ++number) {
    if (kWorkspaceBytes[number] > wish.max_workspace_bytes) continue;
    const Algorithm algorithm{
        .number = number,
        .problem = hash_of(problem),
        .alignments = {wish.alignment_a, wish.alignment_b, wish.alignment_c, wish.alignment_d}};
    cublasLtMatmulHeuristicResult_t& result = results[(*num_found)++];
    result = {};
    result.algo = std::bit_cast<cublasLtMatmulAlgo_t>(algorithm);
    result.workspaceSize = kWorkspaceBytes[number];
    result.state = CUBLAS_STATUS_SUCCESS;
    result.wavesCount = 1.0f;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                       cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t* algo,
                                       cublasLtMatmulHeuristicResult_t* result) {
  const MatmulProblem problem{descriptor_of(desc), layout_of(a), layout_of(b), layout_of(c), layout_of(d)};
  if (const MatmulRefusal refusal = refusal_of(problem); !refusal.reason.empty())
    return refuse(refusal.status, refusal.reason);
  const auto algorithm = std::bit_cast<Algorithm>(*algo);
  if (algorithm.mark != kMark || algorithm.number >= kWorkspaceBytes.size() ||
      algorithm.problem != hash_of(problem))
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "the algorithm was made for another problem");
  *result = {};
  result->algo = *algo;
  result->workspaceSize = kWorkspaceBytes[algorithm.number];
  result->state = CUBLAS_STATUS_SUCCESS;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                    void* value, size_t num_bytes, size_t* num_written) {
  if (attribute != CUBLASLT_ALGO_CONFIG_ID || num_bytes != sizeof(int32_t))
    return CUBLAS_STATUS_INVALID_VALUE;
  const auto number = static_cast<int32_t>(algo->data[1]);
  std::memcpy(value, &number, sizeof number);
  if (num_written != nullptr) *num_written = sizeof number;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t layout_a, const void* b,
                              cublasLtMatrixLayout_t layout_b, const void* beta, const void* c,
                              cublasLtMatrixLayout_t layout_c, void* d, cublasLtMatrixLayout_t layout_d,
                              const cublasLtMatmulAlgo_t* algo, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  if (const auto fault = injected_fault("cublasLtMatmul")) return static_cast<cublasStatus_t>(*fault);
  if (reinterpret_cast<Handle*>(handle)->device != device_of(stream))
    return refuse_run(CUBLAS_STATUS_INVALID_VALUE, "the handle belongs to another device than the stream");
  const MatmulProblem problem{descriptor_of(desc), layout_of(layout_a), layout_of(layout_b),
                              layout_of(layout_c), layout_of(layout_d)};
  if (const MatmulRefusal refusal = refusal_of(problem); !refusal.reason.empty())
    return refuse_run(refusal.status, refusal.reason);
  const MatmulPointers at{a, b, c, d, *static_cast<const float*>(alpha), *static_cast<const float*>(beta)};
  std::string reason = element_problem(problem, at);
  if (algo != nullptr && reason.empty()) {
    const auto algorithm = std::bit_cast<Algorithm>(*algo);
    reason = algorithm_problem(algorithm, problem, at, workspace, workspace_bytes);
  }
  if (!reason.empty()) return refuse_run(CUBLAS_STATUS_INVALID_VALUE, reason);
  return enqueue_checked(stream, operation_of(problem, at, workspace, workspace_bytes));
}
}
