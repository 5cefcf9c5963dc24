// Products, reductions and reshapes; how values are read from and written to memory.
#include "tests/emulated/cudnn_operation.h"

#include <bit>
#include <cmath>
#include <limits>

#include "tests/emulated/diagnosis.h"

namespace takt::emulated {
namespace {

float to_bf16_and_back(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  if (std::isnan(x)) return x;
  return std::bit_cast<float>((bits + 0x7FFFu + (bits >> 16 & 1u)) & 0xFFFF0000u);
}

float rounded(float x, cudnnDataType_t type) {
  switch (type) {
    case CUDNN_DATA_BFLOAT16:
      return to_bf16_and_back(x);
    case CUDNN_DATA_INT32:
      return std::trunc(x);
    case CUDNN_DATA_BOOLEAN:
      return x != 0 ? 1.0f : 0.0f;
    default:
      return x;
  }
}

float load(const void* x, cudnnDataType_t type, int64_t i) {
  if (type == CUDNN_DATA_FLOAT) return static_cast<const float*>(x)[i];
  if (type == CUDNN_DATA_BFLOAT16)
    return std::bit_cast<float>(static_cast<uint32_t>(static_cast<const uint16_t*>(x)[i]) << 16);
  forbidden("cudnn: the double reads no tensors of type " + std::to_string(type));
}

void store(void* x, cudnnDataType_t type, int64_t i, float value) {
  if (type == CUDNN_DATA_FLOAT)
    static_cast<float*>(x)[i] = value;
  else if (type == CUDNN_DATA_BFLOAT16)
    static_cast<uint16_t*>(x)[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
  else
    forbidden("cudnn: the double writes no tensors of type " + std::to_string(type));
}

std::vector<int64_t> stacks_of(const CudnnTensorView& matrices) {
  return {matrices.dims.begin(), matrices.dims.end() - 2};
}

// One matrix: c[m, n] = a[m, k] b[k, n], row-major, in the order of k.
void multiply_matrix(const float* a, const float* b, float* c, int64_t m, int64_t n, int64_t k) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t l = 0; l < k; ++l)
      for (int64_t j = 0; j < n; ++j) c[i * n + j] += a[i * k + l] * b[l * n + j];
}

CudnnOperation matmul_operation(const CudnnDescriptorContent& d) {
  const CudnnTensorView a = view_of(*d.node(CUDNN_ATTR_OPERATION_MATMUL_ADESC));
  const CudnnTensorView b = view_of(*d.node(CUDNN_ATTR_OPERATION_MATMUL_BDESC));
  const CudnnTensorView c = view_of(*d.node(CUDNN_ATTR_OPERATION_MATMUL_CDESC));
  CudnnOperation op{{a, b}, {c}, {}, {}};
  const std::size_t rank = c.dims.size();
  if (rank < 3 || a.dims.size() != rank || b.dims.size() != rank) {
    op.problem = "a product wants three matrices of equal rank, at least 3";
    return op;
  }
  const int64_t m = c.dims[rank - 2], n = c.dims[rank - 1], k = a.dims[rank - 1];
  if (a.dims[rank - 2] != m || b.dims[rank - 2] != k || b.dims[rank - 1] != n)
    op.problem = "a product's sizes differ";
  for (std::size_t i = 0; i + 2 < rank; ++i)
    if (c.dims[i] % a.dims[i] != 0 || c.dims[i] % b.dims[i] != 0)
      op.problem = "a product's stacks do not fit";
  op.run = [=](CudnnValues& values) {
    const std::vector<float>&x = values.read(a), &y = values.read(b);
    std::vector<float> z(static_cast<std::size_t>(c.num_elements()));
    for (int64_t stack = 0; stack < c.num_elements() / (m * n); ++stack)
      multiply_matrix(x.data() + shared_element(stack, stacks_of(c), stacks_of(a)) * m * k,
                      y.data() + shared_element(stack, stacks_of(c), stacks_of(b)) * k * n,
                      z.data() + stack * m * n, m, n, k);
    values.write(c, std::move(z));
  };
  return op;
}

float reduced(cudnnReduceTensorOp_t op, float a, float b) {
  switch (op) {
    case CUDNN_REDUCE_TENSOR_ADD:
    case CUDNN_REDUCE_TENSOR_AVG:
      return a + b;
    case CUDNN_REDUCE_TENSOR_MAX:
      return std::fmax(a, b);
    case CUDNN_REDUCE_TENSOR_MIN:
      return std::fmin(a, b);
    default:
      forbidden("cudnn: the double has no reduction " + std::to_string(op));
  }
}

CudnnOperation reduction_operation(const CudnnDescriptorContent& d) {
  const auto operation = d.node(CUDNN_ATTR_OPERATION_REDUCTION_DESC)
                             ->value<cudnnReduceTensorOp_t>(CUDNN_ATTR_REDUCTION_OPERATOR);
  const CudnnTensorView x = view_of(*d.node(CUDNN_ATTR_OPERATION_REDUCTION_XDESC));
  const CudnnTensorView y = view_of(*d.node(CUDNN_ATTR_OPERATION_REDUCTION_YDESC));
  CudnnOperation op{{x}, {y}, {}, {}};
  if (x.dims.size() != y.dims.size()) op.problem = "a reduction changes the rank";
  for (std::size_t i = 0; op.problem.empty() && i < x.dims.size(); ++i)
    if (x.dims[i] % y.dims[i] != 0) op.problem = "a reduction's sizes do not fit";
  op.run = [=](CudnnValues& values) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const float start = operation == CUDNN_REDUCE_TENSOR_MAX   ? -kInfinity
                        : operation == CUDNN_REDUCE_TENSOR_MIN ? kInfinity
                                                               : 0.0f;
    const std::vector<float>& from = values.read(x);
    std::vector<float> to(static_cast<std::size_t>(y.num_elements()), start);
    for (int64_t i = 0; i < x.num_elements(); ++i) {
      float& result = to[static_cast<std::size_t>(shared_element(i, x.dims, y.dims))];
      result = reduced(operation, result, from[static_cast<std::size_t>(i)]);
    }
    const float part = static_cast<float>(y.num_elements()) / static_cast<float>(x.num_elements());
    if (operation == CUDNN_REDUCE_TENSOR_AVG)
      for (float& value : to) value *= part;
    values.write(y, std::move(to));
  };
  return op;
}

// The same storage with other dimensions and strides: in Takt's graphs a transpose.
CudnnOperation reshape_operation(const CudnnDescriptorContent& d) {
  const CudnnTensorView x = view_of(*d.node(CUDNN_ATTR_OPERATION_RESHAPE_XDESC));
  const CudnnTensorView y = view_of(*d.node(CUDNN_ATTR_OPERATION_RESHAPE_YDESC));
  CudnnOperation op{{x}, {y}, {}, {}};
  if (x.num_elements() != y.num_elements()) op.problem = "a reshape changes the number of elements";
  op.run = [=](CudnnValues& values) {
    const std::vector<float>& from = values.read(x);
    std::map<int64_t, float> storage;
    over_elements(x, [&](int64_t i, int64_t offset) { storage[offset] = from[static_cast<std::size_t>(i)]; });
    std::vector<float> to(from.size());
    over_elements(y,
                  [&](int64_t i, int64_t offset) { to[static_cast<std::size_t>(i)] = storage.at(offset); });
    values.write(y, std::move(to));
  };
  return op;
}

}  // namespace

int64_t CudnnTensorView::num_elements() const {
  int64_t num = 1;
  for (const int64_t extent : dims) num *= extent;
  return num;
}

std::size_t CudnnTensorView::span_bytes() const {
  int64_t last = 0;
  for (std::size_t i = 0; i < dims.size(); ++i) last += (dims[i] - 1) * strides[i];
  return static_cast<std::size_t>(last + 1) * element_bytes(type);
}

CudnnTensorView view_of(const CudnnDescriptorContent& tensor) {
  return {.id = tensor.value<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID),
          .type = tensor.value<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE),
          .is_virtual = tensor.value<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL),
          .by_value = tensor.value<bool>(CUDNN_ATTR_TENSOR_IS_BY_VALUE),
          .dims = tensor.values<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS),
          .strides = tensor.values<int64_t>(CUDNN_ATTR_TENSOR_STRIDES)};
}

std::size_t element_bytes(cudnnDataType_t type) {
  return type == CUDNN_DATA_BFLOAT16 ? 2 : type == CUDNN_DATA_BOOLEAN ? 1 : 4;
}

void over_elements(const CudnnTensorView& tensor, const std::function<void(int64_t, int64_t)>& f) {
  for (int64_t i = 0; i < tensor.num_elements(); ++i) {
    int64_t rest = i, offset = 0;
    for (std::size_t d = tensor.dims.size(); d-- > 0; rest /= tensor.dims[d])
      offset += rest % tensor.dims[d] * tensor.strides[d];
    f(i, offset);
  }
}

int64_t shared_element(int64_t i, const std::vector<int64_t>& whole, const std::vector<int64_t>& dims) {
  int64_t element = 0, step = 1;
  for (std::size_t d = whole.size(); d-- > 0; i /= whole[d]) {
    element += i % whole[d] / (whole[d] / dims[d]) * step;
    step *= dims[d];
  }
  return element;
}

const CudnnValues::Values& CudnnValues::read(const CudnnTensorView& tensor) {
  const auto found = values_.find(tensor.id);
  if (found != values_.end()) return found->second;
  Values& values = values_[tensor.id];
  values.resize(static_cast<std::size_t>(tensor.num_elements()));
  if (tensor.by_value)
    values.assign(values.size(), constants_.at(tensor.id));
  else
    over_elements(tensor, [&](int64_t i, int64_t offset) {
      values[static_cast<std::size_t>(i)] = load(pointers_.at(tensor.id), tensor.type, offset);
    });
  return values;
}

void CudnnValues::write(const CudnnTensorView& tensor, Values values) {
  for (float& value : values) value = rounded(value, tensor.type);
  if (!tensor.is_virtual)
    over_elements(tensor, [&](int64_t i, int64_t offset) {
      store(pointers_.at(tensor.id), tensor.type, offset, values[static_cast<std::size_t>(i)]);
    });
  values_[tensor.id] = std::move(values);
}

CudnnOperation operation_of(const CudnnDescriptorContent& descriptor) {
  switch (descriptor.type) {
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
      return matmul_operation(descriptor);
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
      return pointwise_operation(descriptor);
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
      return reduction_operation(descriptor);
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
      return reshape_operation(descriptor);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
      return convolution_operation(descriptor);
    default:
      forbidden("cudnn: the double has no operation of type " + std::to_string(descriptor.type));
  }
}

}  // namespace takt::emulated
