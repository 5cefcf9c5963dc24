// Elementwise operations of the cuDNN double.
#include <array>
#include <cmath>
#include <optional>

#include "tests/emulated/cudnn_operation.h"
#include "tests/emulated/diagnosis.h"

namespace takt::emulated {
namespace {

constexpr float kRootHalf = 0.70710678118654752f, kScale = 0.79788456080286536f, kCubic = 0.044715f;

std::optional<float> unary(cudnnPointwiseMode_t mode, float x) {
  switch (mode) {
    case CUDNN_POINTWISE_IDENTITY:
      return x;
    case CUDNN_POINTWISE_EXP:
      return std::exp(x);
    case CUDNN_POINTWISE_LOG:
      return std::log(x);
    case CUDNN_POINTWISE_SQRT:
      return std::sqrt(x);
    case CUDNN_POINTWISE_RSQRT:
      return 1 / std::sqrt(x);
    case CUDNN_POINTWISE_NEG:
      return -x;
    case CUDNN_POINTWISE_ABS:
      return std::abs(x);
    case CUDNN_POINTWISE_RECIPROCAL:
      return 1 / x;
    case CUDNN_POINTWISE_RELU_FWD:
      return x > 0 ? x : 0;
    case CUDNN_POINTWISE_TANH_FWD:
      return std::tanh(x);
    case CUDNN_POINTWISE_SIGMOID_FWD:
      return 1 / (1 + std::exp(-x));
    case CUDNN_POINTWISE_SWISH_FWD:
      return x / (1 + std::exp(-x));
    case CUDNN_POINTWISE_GELU_FWD:
      return 0.5f * x * (1 + std::erf(x * kRootHalf));
    case CUDNN_POINTWISE_GELU_APPROX_TANH_FWD:
      return 0.5f * x * (1 + std::tanh(kScale * (x + kCubic * x * x * x)));
    case CUDNN_POINTWISE_LOGICAL_NOT:
      return x == 0;
    default:
      return {};
  }
}

std::optional<float> binary(cudnnPointwiseMode_t mode, float x, float b) {
  switch (mode) {
    case CUDNN_POINTWISE_ADD:
      return x + b;
    case CUDNN_POINTWISE_SUB:
      return x - b;
    case CUDNN_POINTWISE_MUL:
      return x * b;
    case CUDNN_POINTWISE_DIV:
      return x / b;
    case CUDNN_POINTWISE_MAX:
      return std::fmax(x, b);
    case CUDNN_POINTWISE_MIN:
      return std::fmin(x, b);
    case CUDNN_POINTWISE_CMP_EQ:
      return x == b;
    case CUDNN_POINTWISE_CMP_NEQ:
      return x != b;
    case CUDNN_POINTWISE_CMP_GT:
      return x > b;
    case CUDNN_POINTWISE_CMP_GE:
      return x >= b;
    case CUDNN_POINTWISE_CMP_LT:
      return x < b;
    case CUDNN_POINTWISE_CMP_LE:
      return x <= b;
    case CUDNN_POINTWISE_LOGICAL_AND:
      return x != 0 && b != 0;
    case CUDNN_POINTWISE_LOGICAL_OR:
      return x != 0 || b != 0;
    default:
      return {};
  }
}

// As many inputs as the mode has; aborts where the double does not know it.
std::size_t num_inputs(cudnnPointwiseMode_t mode) {
  if (mode == CUDNN_POINTWISE_BINARY_SELECT) return 3;
  if (mode == CUDNN_POINTWISE_GEN_INDEX || unary(mode, 1)) return 1;
  if (binary(mode, 1, 1)) return 2;
  forbidden("cudnn: the double has no pointwise mode " + std::to_string(mode));
}

float pointwise(cudnnPointwiseMode_t mode, const std::array<float, 3>& in) {
  if (mode == CUDNN_POINTWISE_BINARY_SELECT) return in[2] != 0 ? in[0] : in[1];
  if (const auto y = unary(mode, in[0])) return *y;
  return *binary(mode, in[0], in[1]);
}

// The position of every element along an axis.
std::vector<float> indices(const std::vector<int64_t>& dims, std::size_t axis, int64_t num_elements) {
  int64_t inner = 1;
  for (std::size_t d = axis + 1; d < dims.size(); ++d) inner *= dims[d];
  std::vector<float> values;
  for (int64_t i = 0; i < num_elements; ++i) values.push_back(static_cast<float>(i / inner % dims[axis]));
  return values;
}

}  // namespace

CudnnOperation pointwise_operation(const CudnnDescriptorContent& d) {
  const CudnnNode function = d.node(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
  const auto mode = function->value<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
  const auto axis = static_cast<std::size_t>(function->value<int64_t>(CUDNN_ATTR_POINTWISE_AXIS));
  const CudnnTensorView y = view_of(*d.node(CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
  CudnnOperation op{{}, {y}, {}, {}};
  for (const int name : {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
                         CUDNN_ATTR_OPERATION_POINTWISE_TDESC})
    if (d.has(name)) op.inputs.push_back(view_of(*d.node(name)));
  if (op.inputs.size() != num_inputs(mode))
    op.problem = "pointwise mode " + std::to_string(mode) + " wants " + std::to_string(num_inputs(mode)) +
                 " inputs, got " + std::to_string(op.inputs.size());
  for (const CudnnTensorView& x : op.inputs)
    for (std::size_t i = 0; i < y.dims.size(); ++i)
      if (x.dims.size() != y.dims.size() || (x.dims[i] != 1 && x.dims[i] != y.dims[i]))
        op.problem = "a pointwise input's sizes do not fit the output's";
  if (mode == CUDNN_POINTWISE_GEN_INDEX) {
    if (axis >= y.dims.size()) op.problem = "GEN_INDEX along an axis that is not there";
    op.run = [=](CudnnValues& values) { values.write(y, indices(y.dims, axis, y.num_elements())); };
    return op;
  }
  op.run = [mode, y, inputs = op.inputs](CudnnValues& values) {
    std::vector<const std::vector<float>*> from;
    for (const CudnnTensorView& x : inputs) from.push_back(&values.read(x));
    std::vector<float> to(static_cast<std::size_t>(y.num_elements()));
    for (int64_t i = 0; i < y.num_elements(); ++i) {
      std::array<float, 3> in = {};
      for (std::size_t n = 0; n < inputs.size(); ++n)
        in[n] = (*from[n])[static_cast<std::size_t>(shared_element(i, y.dims, inputs[n].dims))];
      to[static_cast<std::size_t>(i)] = pointwise(mode, in);
    }
    values.write(y, std::move(to));
  };
  return op;
}

}  // namespace takt::emulated
