// The conversions that move nothing between ranks: local_slice, this rank's piece along an axis, zeros past its end;
// keep_on_first, x on the first rank of the group and zeros on the others. Copies and fills; see core/device/cuda/copy.cu.
#include "core/device/cuda/copy.h"
#include "core/device/cuda/error.h"
#include "core/ops/cuda_kernels.h"
#include "core/ops/shape_rules.h"

namespace takt::cuda {
namespace {

AxisBytes view_along(const KernelNode& node, const TensorDesc& desc) {
  const Split s = split_around(node, desc.dims, {node.attrs.axis("axis")});
  return {s.outer, s.middle, s.inner * static_cast<std::int64_t>(num_bytes(desc.dtype))};
}

Kernel prepare_local_slice(const KernelNode& node) {
  const AxisBytes in = view_along(node, node.input(0)), out = view_along(node, node.output(0));
  const std::int64_t from = node.group->rank() * out.extent,
                     count = std::clamp<std::int64_t>(in.extent - from, 0, out.extent);
  return [=](const KernelArgs& k) {
    const auto stream = static_cast<cudaStream_t>(k.stream);
    if (count < out.extent)
      TAKT_CUDA(cudaMemsetAsync(k.outputs[0], 0, static_cast<std::size_t>(out.num_bytes()), stream));
    copy_slices(k.inputs[0], in, from, k.outputs[0], out, 0, count, stream);
  };
}

Kernel prepare_keep_on_first(const KernelNode& node) {
  return [num_bytes = node.input(0).num_bytes(), keeps = node.group->rank() == 0](const KernelArgs& k) {
    const auto stream = static_cast<cudaStream_t>(k.stream);
    if (!keeps)
      TAKT_CUDA(cudaMemsetAsync(k.outputs[0], 0, num_bytes, stream));
    else if (k.inputs[0] != k.outputs[0])
      TAKT_CUDA(cudaMemcpyAsync(k.outputs[0], k.inputs[0], num_bytes, cudaMemcpyDeviceToDevice, stream));
  };
}

}  // namespace

DeviceKernel local_slice() {
  return {.prepare = prepare_local_slice, .bf16 = true};
}

DeviceKernel keep_on_first() {
  return {.prepare = prepare_keep_on_first, .bf16 = true};
}

}  // namespace takt::cuda
