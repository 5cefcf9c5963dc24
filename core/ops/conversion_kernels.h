// The kernels of conversions for every device. `Device` says how bytes move on one; what it does is done, or queued on the
// stream:
//
//   copy(x, y, num_bytes, stream)     clear(y, num_bytes, stream)
//   slice(x, x_view, from, y, y_view, count, stream)   elements [from, from + count) along the axis to the front of y
//   cut(x, pieces_of, y, stream)      x into one piece a rank, zero-padded, one after the other
//   join(x, pieces_of, y, stream)     the opposite; padding is left out
#pragma once

#include <algorithm>

#include "collectives/communicator.h"
#include "core/ops/conversion_layout.h"

namespace takt {

template <class Device>
Kernel all_reduce_kernel(const KernelNode& node) {
  return [inputs = node.inputs, name = node.name, group = node.group,
          op = reduce_of(node)](const KernelArgs& k) {
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (k.inputs[i] != k.outputs[i])
        Device::copy(k.inputs[i], k.outputs[i], inputs[i].num_bytes(), k.stream);
    // A bucket's tensors lie side by side (see memory_plan); the gaps between them are zeros.
    const std::byte* end = k.output<std::byte>(inputs.size() - 1) + inputs.back().num_bytes();
    const auto span = static_cast<std::size_t>(end - k.output<std::byte>(0));
    group->all_reduce(k.outputs[0], span / num_bytes(inputs[0].dtype), inputs[0].dtype, op, {name, k.stream});
  };
}

template <class Device>
Kernel bundled_gather_kernel(const KernelNode& node) {
  return [bundle = bundle_of(node, node.outputs, node.inputs), dtype = node.input(0).dtype, name = node.name,
          group = node.group](const KernelArgs& k) {
    auto* send = static_cast<std::byte*>(k.scratch);
    std::byte* receive = send + bundle.part_bytes;
    for (std::size_t i = 0; i < bundle.tensors.size(); ++i)
      Device::copy(k.inputs[i], send + bundle.offsets[i],
                   static_cast<std::size_t>(bundle.tensors[i].piece.num_bytes()), k.stream);
    group->all_gather(send, receive, bundle.num_elements, dtype, {name, k.stream});
    for (std::size_t i = 0; i < bundle.tensors.size(); ++i)
      Device::join(receive + bundle.offsets[i], bundle.tensors[i], k.outputs[i], k.stream);
  };
}

template <class Device>
Kernel bundled_scatter_kernel(const KernelNode& node) {
  return [bundle = bundle_of(node, node.inputs, node.outputs), dtype = node.input(0).dtype,
          op = reduce_of(node), name = node.name, group = node.group](const KernelArgs& k) {
    auto* send = static_cast<std::byte*>(k.scratch);
    std::byte* receive = send + bundle.ranks * bundle.part_bytes;
    for (std::size_t i = 0; i < bundle.tensors.size(); ++i)
      Device::cut(k.inputs[i], bundle.tensors[i], send + bundle.offsets[i], k.stream);
    group->reduce_scatter(send, receive, bundle.num_elements, dtype, op, {name, k.stream});
    for (std::size_t i = 0; i < bundle.tensors.size(); ++i)
      Device::copy(receive + bundle.offsets[i], k.outputs[i],
                   static_cast<std::size_t>(bundle.tensors[i].piece.num_bytes()), k.stream);
  };
}

template <class Device>
Kernel all_gather_kernel(const KernelNode& node) {
  if (node.inputs.size() > 1) return bundled_gather_kernel<Device>(node);
  return [v = gathered(node), x = node.input(0), name = node.name, group = node.group](const KernelArgs& k) {
    void* pieces = v.direct ? k.outputs[0] : k.scratch;
    group->all_gather(k.inputs[0], pieces, static_cast<std::size_t>(x.num_elements()), x.dtype,
                      {name, k.stream});
    if (!v.direct) Device::join(pieces, v, k.outputs[0], k.stream);
  };
}

// From x to y, of a dtype that the group reduces. `scratch` has room for the pieces.
template <class Device>
struct Scatter {
  WholeAndPiece v;
  TensorDesc piece;
  ReduceOp op;
  void run(const void* x, void* y, void* scratch, Communicator& group, const CallSite& at) const {
    if (!v.direct) Device::cut(x, v, scratch, at.stream);
    group.reduce_scatter(v.direct ? x : scratch, y, static_cast<std::size_t>(piece.num_elements()),
                         piece.dtype, op, at);
  }
};

template <class Device>
Kernel reduce_scatter_kernel(const KernelNode& node) {
  if (node.inputs.size() > 1) return bundled_scatter_kernel<Device>(node);
  return [scatter = Scatter<Device>{scattered(node), node.output(0), reduce_of(node)}, name = node.name,
          group = node.group](const KernelArgs& k) {
    scatter.run(k.inputs[0], k.outputs[0], k.scratch, *group, {name, k.stream});
  };
}

template <class Device>
Kernel all_to_all_kernel(const KernelNode& node) {
  return [e = Exchange(node), name = node.name, group = node.group](const KernelArgs& k) {
    auto* scratch = static_cast<std::byte*>(k.scratch);
    if (!e.sent.direct) Device::cut(k.inputs[0], e.sent, scratch, k.stream);
    void* receive = e.received.direct ? k.outputs[0] : scratch + e.sent.scratch_bytes();
    group->all_to_all(e.sent.direct ? k.inputs[0] : scratch, receive,
                      static_cast<std::size_t>(e.part.num_elements()), e.part.dtype, {name, k.stream});
    if (!e.received.direct) Device::join(receive, e.received, k.outputs[0], k.stream);
  };
}

template <class Device>
Kernel local_slice_kernel(const KernelNode& node) {
  const WholeAndPiece v = scattered(node);
  const std::int64_t from = node.group->rank() * v.piece.extent,
                     count = std::clamp<std::int64_t>(v.whole.extent - from, 0, v.piece.extent);
  return [=](const KernelArgs& k) {
    if (count < v.piece.extent)
      Device::clear(k.outputs[0], static_cast<std::size_t>(v.piece.num_bytes()), k.stream);
    Device::slice(k.inputs[0], v.whole, from, k.outputs[0], v.piece, count, k.stream);
  };
}

template <class Device>
Kernel keep_on_first_kernel(const KernelNode& node) {
  return [n = node.input(0).num_bytes(), keeps = node.group->rank() == 0](const KernelArgs& k) {
    if (!keeps)
      Device::clear(k.outputs[0], n, k.stream);
    else if (k.inputs[0] != k.outputs[0])
      Device::copy(k.inputs[0], k.outputs[0], n, k.stream);
  };
}

// On the CPU a collective is complete on return; on a GPU the executor waits for its stream. There is nothing to do.
inline Kernel done_kernel(const KernelNode&) {
  return [](const KernelArgs&) {};
}

}  // namespace takt
