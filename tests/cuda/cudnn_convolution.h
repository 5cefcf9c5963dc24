// Convolutions as graphs of cuDNN. No op of Takt has one yet: this is what the plan check and the double are tried on.
#pragma once

#include "core/device/cuda/cudnn_graph.h"

namespace takt {

enum class Convolution { kForward, kDataGradient, kFilterGradient };

struct ConvolutionShape {
  std::int64_t batch, channels, height, width, filters, window, padding, stride;
  bool channels_last = true;
  DType dtype = DType::kBF16;

  std::int64_t out(std::int64_t extent) const { return (extent + 2 * padding - window) / stride + 1; }
  CudnnDims x() const { return {batch, channels, height, width}; }
  CudnnDims w() const { return {filters, channels, window, window}; }
  CudnnDims y() const { return {batch, filters, out(height), out(width)}; }
  CudnnDims strides(const CudnnDims& d) const {
    return channels_last ? CudnnDims{d[1] * d[2] * d[3], 1, d[3] * d[1], d[1]} : row_major_strides(d);
  }
};

struct ConvolutionNames {
  cudnnBackendDescriptorType_t type;
  cudnnBackendAttributeName_t x, w, y, window, alpha, beta;
};
inline constexpr ConvolutionNames kConvolutionNames[] = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};  // by Convolution

// Tensors in the order x, w, y, or their gradients.
inline CudnnGraph convolution_graph(Convolution kind, const ConvolutionShape& s) {
  CudnnGraph g;
  CudnnDescriptor window(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  const CudnnDims padding = {s.padding, s.padding}, stride = {s.stride, s.stride}, dilation = {1, 1};
  window.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, std::int64_t{2})
      .set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT)
      .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION)
      .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, padding)
      .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, padding)
      .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, dilation)
      .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, stride)
      .finalize();
  const ConvolutionNames& names = kConvolutionNames[static_cast<int>(kind)];
  CudnnDescriptor operation(names.type);
  operation.set(names.x, g.tensor(s.x(), s.strides(s.x()), to_cudnn(s.dtype)).descriptor)
      .set(names.w, g.tensor(s.w(), s.strides(s.w()), to_cudnn(s.dtype)).descriptor)
      .set(names.y, g.tensor(s.y(), s.strides(s.y()), to_cudnn(s.dtype)).descriptor)
      .set(names.window, g.keep(std::move(window)))
      .set(names.alpha, CUDNN_TYPE_FLOAT, 1.0f)
      .set(names.beta, CUDNN_TYPE_FLOAT, 0.0f)
      .finalize();
  g.add(std::move(operation));
  return g;
}

}  // namespace takt
