// cuDNN's graph API, in the order in which it wants to be called: tensors, operations, the graph, the heuristic's engine
// configurations, a plan for one of them, and for every run a pack of pointers.
//
// Source    NVIDIA cuDNN backend API reference, version 9.
#include "core/device/cuda/cudnn_graph.h"

#include <array>
#include <string_view>

#include "core/base/error.h"
#include "core/device/cuda/error.h"

namespace takt {
namespace {

// cuDNN's message holds the failed condition and, a line each, the functions it passed on its way up.
std::string last_reason() {
  std::array<char, 4096> buffer = {};
  cudnnGetLastErrorString(buffer.data(), buffer.size());
  const std::string_view text(buffer.data());
  constexpr std::string_view kMark = "Reason: ";
  const std::size_t mark = text.find(kMark);
  const std::size_t begin = mark == std::string_view::npos ? 0 : mark + kMark.size();
  return std::string(text.substr(begin, text.find('\n', begin) - begin));
}

void require(cudnnStatus_t status, const char* call) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  for_node(last_reason(), [&] { require_cudnn(static_cast<int>(status), call); });
}

CudnnDescriptor operation_graph(const CudnnGraph& graph, const CudnnTarget& target) {
  CudnnDescriptor operations(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  operations.set_array(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                       static_cast<std::int64_t>(graph.operations().size()), graph.operations().data());
  if (target.handle != nullptr)
    operations.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, target.handle);
  operations.finalize();
  return operations;
}

// The engines that the heuristic offers, the best first; if it has none at all, why.
std::vector<CudnnDescriptor> engine_configs(const CudnnDescriptor& operations, const CudnnTarget& target,
                                            cudnnBackendHeurMode_t mode, std::string& refusal) {
  CudnnDescriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, operations.handle())
      .set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
  if (target.device_properties != nullptr)
    heuristic.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, target.device_properties);
  if (const std::string reason = heuristic.try_to_finalize(); !reason.empty()) {
    refusal += reason + "\n";
    return {};
  }
  std::vector<CudnnDescriptor> configs;
  std::vector<cudnnBackendDescriptor_t> handles;
  const std::int64_t most =
      heuristic.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, nullptr);
  for (std::int64_t i = 0; i < most; ++i)
    handles.push_back(configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).handle());
  const std::int64_t num =
      heuristic.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, most, handles.data());
  configs.erase(configs.begin() + num, configs.end());
  return configs;
}

// Makes `plan` one for the engine; why that is not possible, or empty.
std::string refusal_of(CudnnDescriptor& plan, const CudnnDescriptor& config, const CudnnTarget& target,
                       std::size_t workspace_limit) {
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config.handle());
  if (target.handle != nullptr) plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, target.handle);
  if (target.device_properties != nullptr)
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, target.device_properties);
  if (std::string reason = plan.try_to_finalize(); !reason.empty()) return reason;
  std::int64_t bytes = 0;
  plan.get(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &bytes);
  if (static_cast<std::size_t>(bytes) <= workspace_limit) return {};
  return concat("wants ", bytes, " bytes of workspace, the limit is ", workspace_limit);
}

}  // namespace

void destroy_cudnn_descriptor(cudnnBackendDescriptor_t descriptor) noexcept {
  cudnnBackendDestroyDescriptor(descriptor);
}

CudnnDescriptor::CudnnDescriptor(cudnnBackendDescriptorType_t type) {
  cudnnBackendDescriptor_t descriptor = nullptr;
  require(cudnnBackendCreateDescriptor(type, &descriptor), "cudnnBackendCreateDescriptor");
  descriptor_ = Owned<cudnnBackendDescriptor_t, destroy_cudnn_descriptor>(descriptor);
}

CudnnDescriptor& CudnnDescriptor::set(cudnnBackendAttributeName_t name,
                                      std::span<const std::int64_t> values) {
  return set_array(name, CUDNN_TYPE_INT64, static_cast<std::int64_t>(values.size()), values.data());
}

CudnnDescriptor& CudnnDescriptor::set(cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t descriptor) {
  return set_array(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &descriptor);
}

CudnnDescriptor& CudnnDescriptor::set_array(cudnnBackendAttributeName_t name,
                                            cudnnBackendAttributeType_t type, std::int64_t num_values,
                                            const void* values) {
  require(cudnnBackendSetAttribute(handle(), name, type, num_values, values), "cudnnBackendSetAttribute");
  return *this;
}

CudnnDescriptor& CudnnDescriptor::finalize() {
  require(cudnnBackendFinalize(handle()), "cudnnBackendFinalize");
  return *this;
}

std::string CudnnDescriptor::try_to_finalize() {
  const cudnnStatus_t status = cudnnBackendFinalize(handle());
  if (status == CUDNN_STATUS_SUCCESS) return {};
  const std::string reason = last_reason();
  return reason.empty() ? cudnnGetErrorString(status) : reason;
}

std::int64_t CudnnDescriptor::get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                                  std::int64_t num_values, void* values) const {
  std::int64_t num = 0;
  require(cudnnBackendGetAttribute(handle(), name, type, num_values, &num, values),
          "cudnnBackendGetAttribute");
  return num;
}

CudnnDims row_major_strides(const CudnnDims& dims) {
  CudnnDims strides(dims.size(), 1);
  for (std::size_t d = dims.size(); d-- > 1;) strides[d - 1] = strides[d] * dims[d];
  return strides;
}

cudnnDataType_t to_cudnn(DType dtype) {
  TAKT_ASSERT(dtype == DType::kF32 || dtype == DType::kBF16, "cudnn: no tensors of ", dtype);
  return dtype == DType::kBF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

CudnnTensor CudnnGraph::make_tensor(std::int64_t id, const CudnnDims& dims, const CudnnDims& strides,
                                    cudnnDataType_t type, bool in_memory, bool is_constant) {
  CudnnDescriptor tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id)
      .set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type)
      .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, std::int64_t{16})
      .set(CUDNN_ATTR_TENSOR_DIMENSIONS, dims)
      .set(CUDNN_ATTR_TENSOR_STRIDES, strides)
      .set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, !in_memory)
      .set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, is_constant)
      .finalize();
  return {keep(std::move(tensor)), id, dims, strides};
}

CudnnTensor CudnnGraph::tensor(const CudnnDims& dims, const CudnnDims& strides, cudnnDataType_t type) {
  return make_tensor(num_tensors_++, dims, strides, type, true, false);
}

CudnnTensor CudnnGraph::between(const CudnnDims& dims, cudnnDataType_t type, const CudnnDims& strides) {
  return make_tensor(next_id_++, dims, strides.empty() ? row_major_strides(dims) : strides, type, false,
                     false);
}

CudnnTensor CudnnGraph::constant(float value) {
  constants_.emplace_back(next_id_, value);
  const CudnnDims one(4, 1);
  return make_tensor(next_id_++, one, one, CUDNN_DATA_FLOAT, true, true);
}

void CudnnGraph::matmul(const CudnnTensor& a, const CudnnTensor& b, const CudnnTensor& c) {
  CudnnDescriptor product(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  product.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT).finalize();
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, a.descriptor)
      .set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, b.descriptor)
      .set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, c.descriptor)
      .set(CUDNN_ATTR_OPERATION_MATMUL_DESC, keep(std::move(product)))
      .finalize();
  add(std::move(operation));
}

void CudnnGraph::pointwise(cudnnPointwiseMode_t mode, std::initializer_list<CudnnTensor> inputs,
                           const CudnnTensor& output, std::optional<std::int64_t> axis) {
  constexpr std::array kInputs = {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
                                  CUDNN_ATTR_OPERATION_POINTWISE_TDESC};
  TAKT_ASSERT(inputs.size() <= kInputs.size(), "cudnn: a pointwise operation of ", inputs.size(), " inputs");
  CudnnDescriptor function(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  function.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode)
      .set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  if (axis) function.set(CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, *axis);
  function.finalize();
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, keep(std::move(function)))
      .set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, output.descriptor);
  for (std::size_t i = 0; i < inputs.size(); ++i) operation.set(kInputs[i], inputs.begin()[i].descriptor);
  operation.finalize();
  add(std::move(operation));
}

void CudnnGraph::reduce(cudnnReduceTensorOp_t op, const CudnnTensor& x, const CudnnTensor& y) {
  CudnnDescriptor reduction(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  reduction.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, op)
      .set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT)
      .finalize();
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x.descriptor)
      .set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y.descriptor)
      .set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, keep(std::move(reduction)))
      .finalize();
  add(std::move(operation));
}

void CudnnGraph::reshape(const CudnnTensor& x, const CudnnTensor& y) {
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x.descriptor)
      .set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y.descriptor)
      .finalize();
  add(std::move(operation));
}

void CudnnGraph::add(CudnnDescriptor operation) {
  operations_.push_back(keep(std::move(operation)));
}

cudnnBackendDescriptor_t CudnnGraph::keep(CudnnDescriptor descriptor) {
  return descriptors_.emplace_back(std::move(descriptor)).handle();
}

CudnnPlan::CudnnPlan(CudnnGraph graph, std::vector<CudnnDescriptor> made_from, CudnnDescriptor plan)
    : graph_(std::move(graph)), made_from_(std::move(made_from)), plan_(std::move(plan)) {
  std::int64_t bytes = 0;
  plan_.get(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &bytes);
  workspace_bytes_ = static_cast<std::size_t>(bytes);
  CudnnDescriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t handle = engine.handle();
  made_from_.back().get(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &handle);
  engine.get(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &engine_);
}

// A pack holds pointers, which are the same in every step: it is made again only when they change.
void CudnnPlan::bind(std::span<void* const> tensors, void* workspace) {
  TAKT_ASSERT(tensors.size() == graph_.num_tensors(), "cudnn: the graph has ", graph_.num_tensors(),
              " tensors, got ", tensors.size());
  std::vector<void*> pointers(tensors.begin(), tensors.end());
  pointers.push_back(workspace);
  if (pack_ && pointers == bound_) return;
  bound_ = pointers;
  pointers.pop_back();
  std::vector<std::int64_t> ids;
  for (std::size_t i = 0; i < tensors.size(); ++i) ids.push_back(static_cast<std::int64_t>(i));
  for (const auto& [id, value] : graph_.constants()) {
    ids.push_back(id);
    pointers.push_back(const_cast<float*>(&value));
  }
  const auto num = static_cast<std::int64_t>(ids.size());
  pack_.emplace(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack_->set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, ids)
      .set_array(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, num, pointers.data())
      .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace)
      .finalize();
}

void CudnnPlan::run(cudnnHandle_t handle, cudaStream_t stream, std::span<void* const> tensors,
                    void* workspace) {
  bind(tensors, workspace);
  TAKT_CUDNN(cudnnSetStream(handle, stream));
  require(cudnnBackendExecute(handle, plan_.handle(), pack_->handle()), "cudnnBackendExecute");
}

CudnnPlanning plan_cudnn_graph(CudnnGraph graph, const CudnnTarget& target, std::size_t workspace_limit) {
  CudnnDescriptor operations = operation_graph(graph, target);
  CudnnPlanning planning;
  for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK})
    for (CudnnDescriptor& config : engine_configs(operations, target, mode, planning.refusal)) {
      CudnnDescriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
      std::string reason = refusal_of(plan, config, target, workspace_limit);
      if (reason.empty()) {
        std::vector<CudnnDescriptor> made_from;
        made_from.push_back(std::move(operations));
        made_from.push_back(std::move(config));
        planning.plan.emplace(CudnnPlan(std::move(graph), std::move(made_from), std::move(plan)));
        return planning;
      }
      planning.refusal += reason + "\n";
    }
  if (planning.refusal.empty()) planning.refusal = "cuDNN offers no engine for this graph\n";
  return planning;
}

}  // namespace takt
