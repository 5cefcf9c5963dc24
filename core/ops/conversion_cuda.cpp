// The conversions that move data between GPUs. As on the CPU (conversion.cpp), a tensor whose pieces lie in rank order is
// exchanged as it is; others go through scratch, cut before and joined behind, all on the stream of the call.
//
// bf16 is reduced by NCCL as bf16: half the traffic, one rounding a hop. Sums that must keep f32 (accumulators) are f32.
#include "core/device/cuda/copy.h"
#include "core/device/cuda/error.h"
#include "core/ops/cuda_kernels.h"
#include "core/ops/shape_rules.h"

namespace takt::cuda {
namespace {

AxisBytes view_along(const OpArgs& args, const TensorDesc& desc, const Axis& axis) {
  const Split s = split_around(args, desc.dims, {axis});
  return {s.outer, s.middle, s.inner * static_cast<std::int64_t>(num_bytes(desc.dtype))};
}

// Do the pieces of `whole`, one `piece` a rank, lie in it one after the other?
bool lie_in_rank_order(const AxisBytes& whole, const AxisBytes& piece, std::int64_t ranks) {
  return whole.outer == 1 && whole.extent == piece.extent * ranks;
}

ReduceOp reduce_of(const OpArgs& args) {
  return args.attrs.text("op") == "max" ? ReduceOp::kMax : ReduceOp::kSum;
}

cudaStream_t stream_of(const KernelArgs& k) {
  return static_cast<cudaStream_t>(k.stream);
}

Kernel prepare_all_reduce(const KernelNode& node) {
  return [inputs = node.inputs, name = node.name, group = node.group,
          op = reduce_of(node)](const KernelArgs& k) {
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (k.inputs[i] != k.outputs[i])
        TAKT_CUDA(cudaMemcpyAsync(k.outputs[i], k.inputs[i], inputs[i].num_bytes(), cudaMemcpyDeviceToDevice,
                                  stream_of(k)));
    // A bucket's tensors lie side by side (see memory_plan); the gaps between them are zeros.
    const std::byte* end = k.output<std::byte>(inputs.size() - 1) + inputs.back().num_bytes();
    const auto span = static_cast<std::size_t>(end - k.output<std::byte>(0));
    group->all_reduce(k.outputs[0], span / num_bytes(inputs[0].dtype), inputs[0].dtype, op, {name, k.stream});
  };
}

// The input and the output of a gather or scatter along its axis, the larger one first.
struct WholeAndPiece {
  AxisBytes whole, piece;
  std::int64_t ranks;
  bool direct;  // without scratch
  WholeAndPiece(const OpArgs& args, const TensorDesc& whole_desc, const TensorDesc& piece_desc)
      : whole(view_along(args, whole_desc, args.attrs.axis("axis"))),
        piece(view_along(args, piece_desc, args.attrs.axis("axis"))),
        ranks(args.attrs.integer("ranks")),
        direct(lie_in_rank_order(whole, piece, ranks)) {}
  std::size_t scratch_bytes() const {
    return direct ? 0 : static_cast<std::size_t>(ranks * piece.num_bytes());
  }
};

std::size_t gather_scratch(const KernelNode& node) {
  return WholeAndPiece(node, node.output(0), node.input(0)).scratch_bytes();
}

Kernel prepare_all_gather(const KernelNode& node) {
  return [v = WholeAndPiece(node, node.output(0), node.input(0)), x = node.input(0), name = node.name,
          group = node.group](const KernelArgs& k) {
    void* pieces = v.direct ? k.outputs[0] : k.scratch;
    group->all_gather(k.inputs[0], pieces, static_cast<std::size_t>(x.num_elements()), x.dtype,
                      {name, k.stream});
    if (!v.direct) join_pieces(pieces, v.piece, k.outputs[0], v.whole, v.ranks, stream_of(k));
  };
}

std::size_t scatter_scratch(const KernelNode& node) {
  return WholeAndPiece(node, node.input(0), node.output(0)).scratch_bytes();
}

Kernel prepare_reduce_scatter(const KernelNode& node) {
  return [v = WholeAndPiece(node, node.input(0), node.output(0)), y = node.output(0), name = node.name,
          group = node.group, op = reduce_of(node)](const KernelArgs& k) {
    if (!v.direct) cut_pieces(k.inputs[0], v.whole, v.piece, v.ranks, k.scratch, stream_of(k));
    group->reduce_scatter(v.direct ? k.inputs[0] : k.scratch, k.outputs[0],
                          static_cast<std::size_t>(y.num_elements()), y.dtype, op, {name, k.stream});
  };
}

// What one rank sends to another is cut along the axis that becomes sharded and joined along the other.
struct Exchange {
  TensorDesc part;
  AxisBytes in_to, part_to, part_from, out_from;
  std::int64_t ranks;
  bool sends_input, receives_output;  // whose pieces lie in rank order already: without scratch

  explicit Exchange(const OpArgs& args) : part(args.input(0)), ranks(args.attrs.integer("ranks")) {
    const Axis &to = args.attrs.axis("axis"), &from = args.attrs.axis("from");
    part.dims[static_cast<std::size_t>(find_axis(part.dims, to))].extent = args.output(0).extent(to);
    in_to = view_along(args, args.input(0), to);
    part_to = view_along(args, part, to);
    part_from = view_along(args, part, from);
    out_from = view_along(args, args.output(0), from);
    sends_input = lie_in_rank_order(in_to, part_to, ranks);
    receives_output = lie_in_rank_order(out_from, part_from, ranks);
  }
  std::size_t pieces_bytes() const { return part.num_bytes() * static_cast<std::size_t>(ranks); }
};

std::size_t exchange_scratch(const KernelNode& node) {
  const Exchange e(node);
  return (e.sends_input ? 0 : e.pieces_bytes()) + (e.receives_output ? 0 : e.pieces_bytes());
}

Kernel prepare_all_to_all(const KernelNode& node) {
  return [e = Exchange(node), name = node.name, group = node.group](const KernelArgs& k) {
    auto* scratch = static_cast<std::byte*>(k.scratch);
    if (!e.sends_input) cut_pieces(k.inputs[0], e.in_to, e.part_to, e.ranks, scratch, stream_of(k));
    void* receive = scratch + (e.sends_input ? 0 : e.pieces_bytes());
    if (e.receives_output) receive = k.outputs[0];
    group->all_to_all(e.sends_input ? k.inputs[0] : scratch, receive,
                      static_cast<std::size_t>(e.part.num_elements()), e.part.dtype, {name, k.stream});
    if (!e.receives_output)
      join_pieces(receive, e.part_from, k.outputs[0], e.out_from, e.ranks, stream_of(k));
  };
}

// The executor waits for the stream of the collective; there is nothing to queue.
Kernel prepare_done(const KernelNode&) {
  return [](const KernelArgs&) {};
}

}  // namespace

DeviceKernel all_reduce() {
  return {.prepare = prepare_all_reduce, .bf16 = true};
}

DeviceKernel all_gather() {
  return {.prepare = prepare_all_gather, .scratch_bytes = gather_scratch, .bf16 = true};
}

DeviceKernel reduce_scatter() {
  return {.prepare = prepare_reduce_scatter, .scratch_bytes = scatter_scratch, .bf16 = true};
}

DeviceKernel all_to_all() {
  return {.prepare = prepare_all_to_all, .scratch_bytes = exchange_scratch, .bf16 = true};
}

DeviceKernel done() {
  return {.prepare = prepare_done, .bf16 = true};
}

}  // namespace takt::cuda
