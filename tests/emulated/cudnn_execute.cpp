// Handles of the cuDNN double, and execution: the graph's operations one after another, in the order of their values.
//
// Every run fills the workspace with NaN: what one run leaves in it, the next must not want. A product that is written to
// memory and read again by the graph is a sum that the real engines add to, so that it must start at zero.
#include <cstring>
#include <set>
#include <string>

#include "tests/emulated/allocations.h"
#include "tests/emulated/cudnn_support.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/fault_injection.h"
#include "tests/emulated/stream_queue.h"

namespace takt::emulated {
namespace {

struct Handle {
  cudaStream_t stream = nullptr;
  int device = 0;
};
Handle& handle_of(cudnnHandle_t handle) {
  return *reinterpret_cast<Handle*>(handle);
}

// All that a run needs, by value: a captured one runs long after the call.
struct Execution {
  std::vector<CudnnOperation> operations;
  std::map<int64_t, void*> pointers;
  std::map<int64_t, float> constants;
  std::set<int64_t> sums;  // tensors in memory that the graph writes by a product and reads
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

std::set<int64_t> sums_of(const CudnnDescriptorContent& graph,
                          const std::vector<CudnnOperation>& operations) {
  std::set<int64_t> read, sums;
  for (const CudnnOperation& op : operations)
    for (const CudnnTensorView& x : op.inputs) read.insert(x.id);
  const std::vector<CudnnNode> nodes = graph.nodes(CUDNN_ATTR_OPERATIONGRAPH_OPS);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const CudnnTensorView& y = operations[i].outputs.front();
    if (nodes[i]->type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR && !y.is_virtual && read.contains(y.id))
      sums.insert(y.id);
  }
  return sums;
}

bool is_zero(const CudnnTensorView& tensor, const void* pointer) {
  bool zero = true;
  over_elements(tensor,
                [&](int64_t, int64_t offset) { zero &= static_cast<const float*>(pointer)[offset] == 0.0f; });
  return zero;
}

cudaError_t execute(const Execution& e) {
  if (e.workspace_bytes > 0) std::memset(e.workspace, 0xFF, e.workspace_bytes);
  std::set<int64_t> missing;
  for (const CudnnOperation& op : e.operations)
    for (const CudnnTensorView& y : op.outputs) missing.insert(y.id);
  CudnnValues values(e.pointers, e.constants);
  std::vector<bool> done(e.operations.size());
  for (std::size_t rounds = 0; rounds < e.operations.size(); ++rounds)
    for (std::size_t i = 0; i < e.operations.size(); ++i) {
      const CudnnOperation& op = e.operations[i];
      bool ready = !done[i];
      for (const CudnnTensorView& x : op.inputs) ready &= !missing.contains(x.id);
      if (!ready) continue;
      for (const CudnnTensorView& y : op.outputs)
        if (e.sums.contains(y.id) && !is_zero(y, e.pointers.at(y.id))) {
          diagnose("cudnnBackendExecute: tensor " + std::to_string(y.id) +
                   " is a sum and must be zero before the run");
          return cudaErrorUnknown;
        }
      op.run(values);
      done[i] = true;
      for (const CudnnTensorView& y : op.outputs) missing.erase(y.id);
    }
  if (!missing.empty()) diagnose("cudnnBackendExecute: the graph has a cycle");
  return missing.empty() ? cudaSuccess : cudaErrorUnknown;
}

// Fills in pointers and ranges of one tensor; why that is not possible, or empty.
std::string bind_tensor(const CudnnTensorView& tensor, const std::map<int64_t, void*>& given, bool written,
                        int device, Execution& e, Operation& operation) {
  if (tensor.is_virtual) return {};
  const auto found = given.find(tensor.id);
  if (found == given.end()) return "tensor " + std::to_string(tensor.id) + " has no pointer";
  void* const pointer = found->second;
  if (tensor.by_value) {
    e.constants[tensor.id] = *static_cast<const float*>(pointer);
    return {};
  }
  const std::string name = "tensor " + std::to_string(tensor.id);
  if (reinterpret_cast<uintptr_t>(pointer) % 16 != 0) return name + " is not aligned to 16 bytes";
  if (!check_range(pointer, tensor.span_bytes(), device, "cudnnBackendExecute: " + name))
    return name + " lies outside of its allocation";
  e.pointers[tensor.id] = pointer;
  (written ? operation.writes : operation.reads).push_back({pointer, tensor.span_bytes()});
  return {};
}

std::string bind(const CudnnDescriptorContent& pack, int device, Execution& e, Operation& operation) {
  const auto ids = pack.values<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = pack.values<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  if (ids.size() != pointers.size())
    return "the pack has " + std::to_string(ids.size()) + " ids and " + std::to_string(pointers.size()) +
           " pointers";
  std::map<int64_t, void*> given;
  for (std::size_t i = 0; i < ids.size(); ++i) given[ids[i]] = pointers[i];
  for (const CudnnOperation& op : e.operations) {
    for (const CudnnTensorView& x : op.inputs)
      if (std::string problem = bind_tensor(x, given, false, device, e, operation); !problem.empty())
        return problem;
    for (const CudnnTensorView& y : op.outputs)
      if (std::string problem = bind_tensor(y, given, true, device, e, operation); !problem.empty())
        return problem;
  }
  e.workspace = pack.value<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
  if (!check_range(e.workspace, e.workspace_bytes, device, "cudnnBackendExecute: workspace"))
    return "the workspace is too small";
  if (e.workspace_bytes > 0) operation.writes.push_back({e.workspace, e.workspace_bytes});
  return {};
}

}  // namespace
}  // namespace takt::emulated

using namespace takt::emulated;

extern "C" {

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  if (const auto fault = injected_fault("cudnnCreate")) return static_cast<cudnnStatus_t>(*fault);
  *handle = reinterpret_cast<cudnnHandle_t>(new Handle{nullptr, current_device()});
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  delete &handle_of(handle);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  if (const auto fault = injected_fault("cudnnSetStream")) return static_cast<cudnnStatus_t>(*fault);
  if (device_of(stream) != handle_of(handle).device)
    return refuse_cudnn(CUDNN_STATUS_BAD_PARAM, "the stream belongs to another device than the handle");
  handle_of(handle).stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t* stream) {
  *stream = handle_of(handle).stream;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack) {
  if (const auto fault = injected_fault("cudnnBackendExecute")) return static_cast<cudnnStatus_t>(*fault);
  const CudnnNode of_plan = node_of(plan), of_pack = node_of(pack);
  if (of_plan == nullptr || of_pack == nullptr || !of_plan->finalized || !of_pack->finalized)
    return refuse_cudnn(CUDNN_STATUS_NOT_INITIALIZED, "the plan or the pack is not finalized");
  const CudnnNode engine =
      of_plan->node(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->node(CUDNN_ATTR_ENGINECFG_ENGINE);
  const CudnnNode graph = engine->node(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
  Execution execution;
  execution.operations = operations_of(*graph);
  execution.sums = sums_of(*graph, execution.operations);
  execution.workspace_bytes =
      static_cast<std::size_t>(of_plan->value<int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE));
  Operation operation;
  operation.name = "cudnnBackendExecute";
  operation.instrumented = true;
  if (const std::string problem = bind(*of_pack, handle_of(handle).device, execution, operation);
      !problem.empty()) {
    diagnose("cudnnBackendExecute: " + problem);
    return refuse_cudnn(CUDNN_STATUS_BAD_PARAM, problem);
  }
  operation.run = [execution = std::move(execution)] { return execute(execution); };
  return enqueue(handle_of(handle).stream, std::move(operation)) == cudaSuccess
             ? CUDNN_STATUS_SUCCESS
             : CUDNN_STATUS_EXECUTION_FAILED;
}
}
