// Descriptors and graphs that fit together, and which of them the real library has engines for.
//
// Engines: what cuDNN 9.19 answered for H100, B200 and RTX PRO 6000 (real_cudnn/cudnn_plans_test.cpp asks again). A graph with
// several products is attention. Its matrices are bf16 with rows of a multiple of 8 elements; f32 is taken forward only.
// The gradient, with five products, takes heads up to 256 elements on H100 and up to 128 on the others.
#include "tests/emulated/cudnn_support.h"

#include <set>

#include "tests/emulated/control.h"

namespace takt::emulated {
namespace {

bool is_operation(cudnnBackendDescriptorType_t type) {
  switch (type) {
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
      return true;
    default:
      return false;
  }
}

std::string tensor_problem(const CudnnTensorView& tensor) {
  if (tensor.dims.empty() || tensor.dims.size() != tensor.strides.size())
    return "a tensor's dimensions and strides differ";
  for (std::size_t i = 0; i < tensor.dims.size(); ++i)
    if (tensor.dims[i] < 1 || tensor.strides[i] < 1) return "a tensor has a dimension or stride below 1";
  if (tensor.is_virtual && tensor.by_value) return "a tensor is both virtual and given by value";
  return {};
}

// Every tensor is written once at most, and what is virtual is written.
std::string graph_problem(const CudnnDescriptorContent& graph) {
  const std::vector<CudnnOperation> operations = operations_of(graph);
  std::set<int64_t> written;
  for (const CudnnOperation& op : operations)
    for (const CudnnTensorView& y : op.outputs)
      if (!written.insert(y.id).second) return "tensor " + std::to_string(y.id) + " is written twice";
  for (const CudnnOperation& op : operations)
    for (const CudnnTensorView& x : op.inputs)
      if (x.is_virtual && !written.contains(x.id))
        return "virtual tensor " + std::to_string(x.id) + " is never written";
  return {};
}

bool rows_are_packed(const CudnnTensorView& matrix) {
  constexpr int64_t kElements = 8;
  for (std::size_t i = 0; i < matrix.dims.size(); ++i) {
    if (matrix.strides[i] == 1 && !matrix.is_virtual && matrix.dims[i] % kElements != 0) return false;
    if (matrix.strides[i] != 1 && !matrix.is_virtual && matrix.strides[i] % kElements != 0) return false;
  }
  return true;
}

}  // namespace

std::vector<CudnnOperation> operations_of(const CudnnDescriptorContent& graph) {
  std::vector<CudnnOperation> operations;
  for (const CudnnNode& operation : graph.nodes(CUDNN_ATTR_OPERATIONGRAPH_OPS))
    operations.push_back(operation_of(*operation));
  return operations;
}

std::string finalize_problem(const CudnnDescriptorContent& descriptor) {
  if (std::string missing = missing_attribute(descriptor); !missing.empty()) return missing;
  if (descriptor.type == CUDNN_BACKEND_TENSOR_DESCRIPTOR) return tensor_problem(view_of(descriptor));
  if (is_operation(descriptor.type)) return operation_of(descriptor).problem;
  if (descriptor.type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) return graph_problem(descriptor);
  return {};
}

std::string engine_problem(const CudnnDescriptorContent& graph) {
  std::vector<CudnnOperation> products;
  const std::vector<CudnnNode> nodes = graph.nodes(CUDNN_ATTR_OPERATIONGRAPH_OPS);
  for (const CudnnNode& node : nodes)
    if (node->type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR) products.push_back(operation_of(*node));
  if (products.size() < 2) return {};
  const bool is_gradient = products.size() > 2;
  const int64_t widest = settings().model == Model::kH100 ? 256 : 128;
  for (const CudnnOperation& product : products) {
    const CudnnTensorView& a = product.inputs[0];
    if (is_gradient && a.type == CUDNN_DATA_FLOAT) return "no engine: the gradient of attention wants bf16";
    for (const CudnnTensorView& x : product.inputs)
      if (x.type == CUDNN_DATA_BFLOAT16 && !rows_are_packed(x))
        return "no engine: heads are not whole packs of 8";
    if (is_gradient && !a.is_virtual && a.dims.back() > widest)
      return "no engine: heads are too wide for the gradient";
  }
  return {};
}

}  // namespace takt::emulated
