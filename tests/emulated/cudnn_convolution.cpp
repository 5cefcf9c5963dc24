// Convolutions of the cuDNN double: two spatial dimensions, groups, strides, dilations.
#include <array>

#include "tests/emulated/cudnn_operation.h"

namespace takt::emulated {
namespace {

// The attributes of the three operations, in the order x, w, y, convolution, alpha, beta.
struct Names {
  std::array<int, 4> tensors_and_convolution;
  int alpha, beta;
};
constexpr Names kForward = {
    {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC},
    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
constexpr Names kData = {
    {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC},
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
constexpr Names kFilter = {
    {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC},
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};

struct Convolution {
  CudnnTensorView x, w, y;  // [n, c, h, w], [k, c / groups, r, s], [n, k, p, q]
  std::vector<int64_t> padding, padding_after, stride, dilation;

  int64_t groups() const { return x.dims[1] / w.dims[1]; }
};

std::string problem_of(const Convolution& c) {
  if (c.x.dims.size() != 4 || c.w.dims.size() != 4 || c.y.dims.size() != 4 || c.padding.size() != 2)
    return "the double has convolutions over two spatial dimensions only";
  if (c.x.dims[0] != c.y.dims[0] || c.y.dims[1] != c.w.dims[0] || c.x.dims[1] % c.w.dims[1] != 0 ||
      c.w.dims[0] % c.groups() != 0)
    return "a convolution's channels do not fit";
  for (std::size_t i = 0; i < 2; ++i) {
    const int64_t window = c.dilation[i] * (c.w.dims[2 + i] - 1) + 1;
    if (c.y.dims[2 + i] != (c.x.dims[2 + i] + c.padding[i] + c.padding_after[i] - window) / c.stride[i] + 1)
      return "a convolution's output has the wrong size";
  }
  return {};
}

// Calls f(x, w, y), the numbers of row-major elements, for every product of the convolution.
template <class F>
void over_taps(const Convolution& c, const F& f) {
  const std::vector<int64_t>&x = c.x.dims, &w = c.w.dims, &y = c.y.dims;
  for (int64_t at_y = 0; at_y < c.y.num_elements(); ++at_y) {
    const int64_t q = at_y % y[3], p = at_y / y[3] % y[2], k = at_y / (y[3] * y[2]) % y[1],
                  n = at_y / (y[3] * y[2] * y[1]);
    for (int64_t tap = 0; tap < w[1] * w[2] * w[3]; ++tap) {
      const int64_t s = tap % w[3], r = tap / w[3] % w[2], channel = tap / (w[3] * w[2]);
      const int64_t row = p * c.stride[0] - c.padding[0] + r * c.dilation[0];
      const int64_t column = q * c.stride[1] - c.padding[1] + s * c.dilation[1];
      if (row < 0 || row >= x[2] || column < 0 || column >= x[3]) continue;
      const int64_t x_channel = k / (w[0] / c.groups()) * w[1] + channel;
      f(((n * x[1] + x_channel) * x[2] + row) * x[3] + column, k * w[1] * w[2] * w[3] + tap, at_y);
    }
  }
}

}  // namespace

CudnnOperation convolution_operation(const CudnnDescriptorContent& d) {
  const bool to_x = d.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR;
  const bool to_w = d.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR;
  const Names& names = to_x ? kData : to_w ? kFilter : kForward;
  const CudnnNode window = d.node(names.tensors_and_convolution[3]);
  const Convolution c{view_of(*d.node(names.tensors_and_convolution[0])),
                      view_of(*d.node(names.tensors_and_convolution[1])),
                      view_of(*d.node(names.tensors_and_convolution[2])),
                      window->values<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS),
                      window->values<int64_t>(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS),
                      window->values<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES),
                      window->values<int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS)};
  const CudnnTensorView &result = to_x   ? c.x
                                  : to_w ? c.w
                                         : c.y,
                        &a = to_x ? c.w : c.x, &b = to_x || to_w ? c.y : c.w;
  CudnnOperation op{{a, b}, {result}, {}, problem_of(c)};
  if (d.value<float>(names.alpha) != 1 || d.value<float>(names.beta) != 0)
    op.problem = "the double's convolutions have alpha 1 and beta 0";
  op.run = [=](CudnnValues& values) {
    std::vector<float> sums(static_cast<std::size_t>(result.num_elements()));
    const std::vector<float>&of_a = values.read(a), &of_b = values.read(b);
    over_taps(c, [&](int64_t at_x, int64_t at_w, int64_t at_y) {
      const auto to = static_cast<std::size_t>(to_x ? at_x : to_w ? at_w : at_y);
      const auto from_a = static_cast<std::size_t>(to_x ? at_w : at_x);
      const auto from_b = static_cast<std::size_t>(to_x || to_w ? at_y : at_w);
      sums[to] += of_a[from_a] * of_b[from_b];
    });
    values.write(result, std::move(sums));
  };
  return op;
}

}  // namespace takt::emulated
