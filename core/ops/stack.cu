// stack: y[o, n, i] = x_n[o, i];  unstack: y_n[o, i] = x[o, n, i]. Every element is read once and written once, a launch a
// part; see core/device/cuda/copy.cu.
#include "core/device/cuda/copy.h"
#include "core/ops/cuda_kernels.h"
#include "core/ops/shape_rules.h"

namespace takt::cuda {
namespace {

// The tensor with the stacked axis as [outer, parts, inner], inner in bytes.
Split parts_of(const KernelNode& node, const TensorDesc& stacked) {
  Split s = split_around(node, stacked.dims, {node.attrs.axis("axis")});
  s.inner *= static_cast<std::int64_t>(num_bytes(stacked.dtype));
  return s;
}

Kernel prepare_stack(const KernelNode& node) {
  return [p = parts_of(node, node.output(0))](const KernelArgs& k) {
    for (std::int64_t part = 0; part < p.middle; ++part)
      copy_runs({.x = k.inputs[static_cast<std::size_t>(part)],
                 .y = k.output<std::byte>(0) + part * p.inner,
                 .x_pitch = p.inner,
                 .y_pitch = p.middle * p.inner,
                 .run_bytes = p.inner,
                 .num_runs = p.outer},
                static_cast<cudaStream_t>(k.stream));
  };
}

Kernel prepare_unstack(const KernelNode& node) {
  return [p = parts_of(node, node.input(0))](const KernelArgs& k) {
    for (std::int64_t part = 0; part < p.middle; ++part)
      copy_runs({.x = k.input<std::byte>(0) + part * p.inner,
                 .y = k.outputs[static_cast<std::size_t>(part)],
                 .x_pitch = p.middle * p.inner,
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
