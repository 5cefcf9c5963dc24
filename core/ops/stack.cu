// stack: y[o, n, i] = x_n[o, i];  unstack: y_n[o, i] = x[o, n, i]. Every element is read once and written once, a launch a
// part; see core/device/cuda/copy.cu.
#include "core/device/cuda/copy.h"
#include "core/ops/cuda_kernels.h"

namespace takt::cuda {
namespace {

// A part [outer, inner] beside the tensor with the stacked axis, in bytes.
struct Parts {
  std::int64_t outer = 1, num_parts = 1, inner = 1;
};

Parts parts_of(const KernelNode& node, const TensorDesc& stacked) {
  const auto axis = static_cast<std::size_t>(find_axis(stacked.dims, node.attrs.axis("axis")));
  Parts p{1, stacked.dims[axis].extent, static_cast<std::int64_t>(num_bytes(stacked.dtype))};
  for (std::size_t d = 0; d < stacked.dims.size(); ++d)
    if (d != axis) (d < axis ? p.outer : p.inner) *= stacked.dims[d].extent;
  return p;
}

Kernel prepare_stack(const KernelNode& node) {
  return [p = parts_of(node, node.output(0))](const KernelArgs& k) {
    for (std::int64_t part = 0; part < p.num_parts; ++part)
      copy_runs({.x = k.inputs[static_cast<std::size_t>(part)],
                 .y = k.output<std::byte>(0) + part * p.inner,
                 .x_pitch = p.inner,
                 .y_pitch = p.num_parts * p.inner,
                 .run_bytes = p.inner,
                 .num_runs = p.outer},
                static_cast<cudaStream_t>(k.stream));
  };
}

Kernel prepare_unstack(const KernelNode& node) {
  return [p = parts_of(node, node.input(0))](const KernelArgs& k) {
    for (std::int64_t part = 0; part < p.num_parts; ++part)
      copy_runs({.x = k.input<std::byte>(0) + part * p.inner,
                 .y = k.outputs[static_cast<std::size_t>(part)],
                 .x_pitch = p.num_parts * p.inner,
                 .y_pitch = p.inner,
                 .run_bytes = p.inner,
                 .num_runs = p.outer},
                static_cast<cudaStream_t>(k.stream));
  };
}

}  // namespace

DeviceKernel stack() {
  return {.prepare = prepare_stack, .bf16 = true};
}

DeviceKernel unstack() {
  return {.prepare = prepare_unstack, .bf16 = true};
}

}  // namespace takt::cuda
