// conversion: between placements along one mesh axis of n ranks
//
//   all_reduce      y = sum (or max) over ranks of x            local shapes [.., a, ..] -> [.., a, ..]
//   reduce_scatter  this rank's piece of that sum               [.., a, ..] -> [.., ceil(a/n), ..]
//   all_gather      all ranks' pieces side by side              [.., ceil(a/n), ..] -> [.., a, ..]
//   all_to_all      pieces along b become pieces along a        [.., a/n, .., b, ..] -> [.., a, .., b/n, ..]
//   local_slice     this rank's piece, no communication         [.., a, ..] -> [.., ceil(a/n), ..]
//   keep_on_first   x on the first rank, zeros on the others    no communication
//   done            what a started collective wrote, complete   no communication, no work
//
// Attributes: "ranks" = n, "axis" = a (and "from" = the axis that was sharded, in all_to_all), "extent" = the extent of a
// after all_gather, "op" = sum or max. Pieces past the end of an uneven axis are zeros.
// Dtypes    any; bf16 is reduced as f32 in scratch and rounded once.
// Scratch   holds all ranks' pieces in rank order where they do not lie so in the tensor already: they do if a is the
//           leading axis and divides evenly.
// Cost      no arithmetic to speak of; what moves is priced by the collectives.
#include <algorithm>
#include <cstring>

#include "core/ops/builders.h"
#include "core/ops/elementwise.h"
#include "core/ops/op.h"

namespace takt {
namespace {

// A tensor seen as [outer, axis, inner], inner in bytes.
struct AxisView {
  std::int64_t outer = 1, extent = 1, inner = 1;
  std::int64_t num_bytes() const { return outer * extent * inner; }
};

AxisView view_along(const TensorDesc& desc, const Axis& axis) {
  AxisView view{.inner = static_cast<std::int64_t>(num_bytes(desc.dtype))};
  bool after = false;
  for (const Dim& dim : desc.dims) {
    if (dim.axis == axis)
      view.extent = dim.extent;
    else
      (after ? view.inner : view.outer) *= dim.extent;
    after = after || dim.axis == axis;
  }
  return view;
}

// Do the pieces of `whole`, one `piece` a rank, lie in it one after the other?
bool lie_in_rank_order(const AxisView& whole, const AxisView& piece, std::int64_t ranks) {
  return whole.outer == 1 && whole.extent == piece.extent * ranks;
}

// Copies elements [from, from + count) along the axis of x to [to, to + count) of y.
void copy_slices(const std::byte* x, const AxisView& from_view, std::int64_t from, std::byte* y,
                 const AxisView& to_view, std::int64_t to, std::int64_t count) {
  for (std::int64_t o = 0; count > 0 && o < from_view.outer; ++o)
    std::memcpy(y + (o * to_view.extent + to) * to_view.inner,
                x + (o * from_view.extent + from) * from_view.inner,
                static_cast<std::size_t>(count * from_view.inner));
}

// Cuts x into `ranks` pieces along `in`'s axis, zero-padded, one after the other.
void cut(const std::byte* x, const AxisView& in, const AxisView& piece, std::int64_t ranks,
         std::byte* pieces) {
  for (std::int64_t r = 0; r < ranks; ++r, pieces += piece.num_bytes()) {
    const std::int64_t count = std::clamp<std::int64_t>(in.extent - r * piece.extent, 0, piece.extent);
    if (count < piece.extent) std::memset(pieces, 0, static_cast<std::size_t>(piece.num_bytes()));
    copy_slices(x, in, r * piece.extent, pieces, piece, 0, count);
  }
}

// The opposite; padding is left out.
void join(const std::byte* pieces, const AxisView& piece, std::byte* y, const AxisView& out,
          std::int64_t ranks) {
  for (std::int64_t r = 0; r < ranks; ++r, pieces += piece.num_bytes()) {
    const std::int64_t count = std::clamp<std::int64_t>(out.extent - r * piece.extent, 0, piece.extent);
    copy_slices(pieces, piece, 0, y, out, r * piece.extent, count);
  }
}

std::int64_t ranks_of(const OpArgs& args) {
  return args.attrs.integer("ranks");
}
const Axis& axis_of(const OpArgs& args) {
  return args.attrs.axis("axis");
}
ReduceOp reduce_of(const OpArgs& args) {
  return args.attrs.text("op") == "max" ? ReduceOp::kMax : ReduceOp::kSum;
}

TensorDesc with_extent(TensorDesc desc, const Axis& axis, std::int64_t extent) {
  const int i = find_axis(desc.dims, axis);
  TAKT_ASSERT(i >= 0, "conversion: no axis '", axis, "' in ", desc);
  desc.dims[static_cast<std::size_t>(i)].extent = extent;
  return desc;
}

std::int64_t piece(std::int64_t extent, std::int64_t ranks) {
  return (extent + ranks - 1) / ranks;
}

std::vector<TensorDesc> infer_same(const OpArgs& args) {
  return args.inputs;
}
std::vector<TensorDesc> infer_piece(const OpArgs& args) {
  return {
      with_extent(args.input(0), axis_of(args), piece(args.input(0).extent(axis_of(args)), ranks_of(args)))};
}
std::vector<TensorDesc> infer_gather(const OpArgs& args) {
  return {with_extent(args.input(0), axis_of(args), args.attrs.integer("extent"))};
}
std::vector<TensorDesc> infer_all_to_all(const OpArgs& args) {
  const Axis &to = axis_of(args), &from = args.attrs.axis("from");
  const TensorDesc& x = args.input(0);
  return {with_extent(with_extent(x, to, piece(x.extent(to), ranks_of(args))), from,
                      x.extent(from) * ranks_of(args))};
}

std::size_t f32_bytes(const TensorDesc& desc) {
  return static_cast<std::size_t>(desc.num_elements()) * sizeof(float);
}
TensorDesc as_f32(const TensorDesc& desc) {
  return {desc.dims, DType::kF32};
}

std::size_t all_reduce_scratch(const KernelNode& node) {
  std::size_t most = 0;
  for (const TensorDesc& input : node.inputs)
    if (input.dtype == DType::kBF16) most = std::max(most, f32_bytes(input));
  return most;
}

// Each tensor by itself, summed in f32.
void all_reduce_bf16(const KernelArgs& k, std::size_t i, std::int64_t n, Communicator& group, ReduceOp op,
                     const std::string& name) {
  auto* wide = static_cast<float*>(k.scratch);
  convert(k.input<BF16>(i), wide, n);
  group.all_reduce(wide, static_cast<std::size_t>(n), DType::kF32, op, {name});
  convert(wide, k.output<BF16>(i), n);
}

Kernel cpu_all_reduce(const KernelNode& node) {
  return [inputs = node.inputs, name = node.name, group = node.group,
          op = reduce_of(node)](const KernelArgs& k) {
    if (inputs[0].dtype == DType::kBF16) {
      for (std::size_t i = 0; i < inputs.size(); ++i)
        all_reduce_bf16(k, i, inputs[i].num_elements(), *group, op, name);
      return;
    }
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (k.inputs[i] != k.outputs[i]) std::memcpy(k.outputs[i], k.inputs[i], inputs[i].num_bytes());
    // A bucket's tensors lie side by side (see memory_plan); the gaps between them are zeros.
    const std::byte* end = k.output<std::byte>(inputs.size() - 1) + inputs.back().num_bytes();
    const auto span = static_cast<std::size_t>(end - k.output<std::byte>(0));
    group->all_reduce(k.outputs[0], span / num_bytes(inputs[0].dtype), inputs[0].dtype, op, {name});
  };
}

// The input and the output of a gather or scatter along its axis, the larger one first.
struct WholeAndPiece {
  AxisView whole, piece;
  std::int64_t ranks;
  bool direct;  // without scratch
  WholeAndPiece(const OpArgs& args, const TensorDesc& whole_desc, const TensorDesc& piece_desc)
      : whole(view_along(whole_desc, axis_of(args))),
        piece(view_along(piece_desc, axis_of(args))),
        ranks(ranks_of(args)),
        direct(lie_in_rank_order(whole, piece, ranks)) {}
  std::size_t scratch_bytes() const {
    return direct ? 0 : static_cast<std::size_t>(ranks * piece.num_bytes());
  }
};

std::size_t gather_scratch(const KernelNode& node) {
  return WholeAndPiece(node, node.output(0), node.input(0)).scratch_bytes();
}

Kernel cpu_all_gather(const KernelNode& node) {
  return [v = WholeAndPiece(node, node.output(0), node.input(0)), x = node.input(0), name = node.name,
          group = node.group](const KernelArgs& k) {
    auto* pieces = static_cast<std::byte*>(v.direct ? k.outputs[0] : k.scratch);
    group->all_gather(k.inputs[0], pieces, static_cast<std::size_t>(x.num_elements()), x.dtype, {name});
    if (!v.direct) join(pieces, v.piece, k.output<std::byte>(0), v.whole, v.ranks);
  };
}

// bf16: first the f32 copy of x, then its pieces if they do not lie in rank order, then the f32 result.
std::size_t scatter_scratch(const KernelNode& node) {
  const WholeAndPiece v(node, as_f32(node.input(0)), as_f32(node.output(0)));
  if (node.input(0).dtype == DType::kBF16)
    return f32_bytes(node.input(0)) + v.scratch_bytes() + f32_bytes(node.output(0));
  return WholeAndPiece(node, node.input(0), node.output(0)).scratch_bytes();
}

// x, of a dtype that can be reduced, into y. `scratch` has room for the pieces.
struct Scatter {
  WholeAndPiece v;
  std::int64_t num_elements;
  DType dtype;
  ReduceOp op;
  void run(const void* x, void* y, std::byte* scratch, Communicator& group, const std::string& name) const {
    if (!v.direct) cut(static_cast<const std::byte*>(x), v.whole, v.piece, v.ranks, scratch);
    group.reduce_scatter(v.direct ? x : scratch, y, static_cast<std::size_t>(num_elements), dtype, op,
                         {name});
  }
};

Kernel cpu_reduce_scatter(const KernelNode& node) {
  const bool narrow = node.input(0).dtype == DType::kBF16;
  const TensorDesc x = narrow ? as_f32(node.input(0)) : node.input(0);
  const TensorDesc y = narrow ? as_f32(node.output(0)) : node.output(0);
  const Scatter scatter{WholeAndPiece(node, x, y), y.num_elements(), x.dtype, reduce_of(node)};
  if (!narrow)
    return [scatter, name = node.name, group = node.group](const KernelArgs& k) {
      scatter.run(k.inputs[0], k.outputs[0], static_cast<std::byte*>(k.scratch), *group, name);
    };
  return [scatter, x, y, name = node.name, group = node.group](const KernelArgs& k) {
    auto* wide_x = static_cast<float*>(k.scratch);
    auto* pieces = static_cast<std::byte*>(k.scratch) + x.num_bytes();
    auto* wide_y = reinterpret_cast<float*>(pieces + scatter.v.scratch_bytes());
    convert(k.input<BF16>(0), wide_x, x.num_elements());
    scatter.run(wide_x, wide_y, pieces, *group, name);
    convert(wide_y, k.output<BF16>(0), y.num_elements());
  };
}

// What one rank sends to another is cut along the axis that becomes sharded ("to") and joined along the other.
struct Exchange {
  TensorDesc part;
  AxisView in_to, part_to, part_from, out_from;
  std::int64_t ranks;
  bool sends_input, receives_output;  // whose pieces lie in rank order already: without scratch

  explicit Exchange(const OpArgs& args)
      : part(with_extent(args.input(0), axis_of(args), args.output(0).extent(axis_of(args)))),
        in_to(view_along(args.input(0), axis_of(args))),
        part_to(view_along(part, axis_of(args))),
        part_from(view_along(part, args.attrs.axis("from"))),
        out_from(view_along(args.output(0), args.attrs.axis("from"))),
        ranks(ranks_of(args)),
        sends_input(lie_in_rank_order(in_to, part_to, ranks)),
        receives_output(lie_in_rank_order(out_from, part_from, ranks)) {}
  std::size_t pieces_bytes() const { return part.num_bytes() * static_cast<std::size_t>(ranks); }
};

std::size_t exchange_scratch(const KernelNode& node) {
  const Exchange e(node);
  return (e.sends_input ? 0 : e.pieces_bytes()) + (e.receives_output ? 0 : e.pieces_bytes());
}

Kernel cpu_all_to_all(const KernelNode& node) {
  return [e = Exchange(node), name = node.name, group = node.group](const KernelArgs& k) {
    auto* scratch = static_cast<std::byte*>(k.scratch);
    if (!e.sends_input) cut(k.input<std::byte>(0), e.in_to, e.part_to, e.ranks, scratch);
    std::byte* receive = scratch + (e.sends_input ? 0 : e.pieces_bytes());
    if (e.receives_output) receive = k.output<std::byte>(0);
    group->all_to_all(e.sends_input ? k.inputs[0] : scratch, receive,
                      static_cast<std::size_t>(e.part.num_elements()), e.part.dtype, {name});
    if (!e.receives_output) join(receive, e.part_from, k.output<std::byte>(0), e.out_from, e.ranks);
  };
}

Kernel cpu_local_slice(const KernelNode& node) {
  const AxisView in = view_along(node.input(0), axis_of(node)),
                 out = view_along(node.output(0), axis_of(node));
  const std::int64_t from = node.group->rank() * out.extent,
                     count = std::clamp<std::int64_t>(in.extent - from, 0, out.extent);
  return [=](const KernelArgs& k) {
    auto* y = k.output<std::byte>(0);
    if (count < out.extent) std::memset(y, 0, static_cast<std::size_t>(out.num_bytes()));
    copy_slices(k.input<std::byte>(0), in, from, y, out, 0, count);
  };
}

Kernel cpu_keep_on_first(const KernelNode& node) {
  return [n = node.input(0).num_bytes(), keeps = node.group->rank() == 0](const KernelArgs& k) {
    if (!keeps)
      std::memset(k.outputs[0], 0, n);
    else if (k.inputs[0] != k.outputs[0])
      std::memcpy(k.outputs[0], k.inputs[0], n);
  };
}

Kernel cpu_done(const KernelNode&) {
  return [](const KernelArgs&) {};  // on this device a collective is complete on return
}
Cost cost_nothing(const OpArgs&) {
  return {};
}

// What all conversions have in common.
OpDef conversion(const std::string& name, std::vector<TensorDesc> (*infer)(const OpArgs&),
                 Kernel (*prepare)(const KernelNode&), std::size_t (*scratch_bytes)(const KernelNode&),
                 bool communicates, const DeviceKernel& cuda) {
  return {.name = name,
          .infer = infer,
          .cpu = {.prepare = prepare, .scratch_bytes = scratch_bytes, .bf16 = true},
          .cuda = cuda,
          .needs_group = true,
          .communicates = communicates};
}

OpDef overwriting(OpDef op) {
  op.may_overwrite_input = true;
  return op;
}

}  // namespace

const OpDef& all_gather_op() {
  static const OpDef op = conversion("all_gather", infer_gather, cpu_all_gather, gather_scratch, true,
                                     TAKT_CUDA_KERNEL(all_gather));
  return op;
}

const OpDef& all_reduce_op() {
  static const OpDef op = overwriting(conversion("all_reduce", infer_same, cpu_all_reduce, all_reduce_scratch,
                                                 true, TAKT_CUDA_KERNEL(all_reduce)));
  return op;
}

const OpDef& all_to_all_op() {
  static const OpDef op = conversion("all_to_all", infer_all_to_all, cpu_all_to_all, exchange_scratch, true,
                                     TAKT_CUDA_KERNEL(all_to_all));
  return op;
}

const OpDef& done_op() {
  static const OpDef op = {.name = "done",
                           .infer = infer_same,
                           .cost = cost_nothing,
                           .cpu = {.prepare = cpu_done, .bf16 = true},
                           .cuda = TAKT_CUDA_KERNEL(done),
                           .awaits = true};
  return op;
}

const OpDef& keep_on_first_op() {
  static const OpDef op = overwriting(conversion("keep_on_first", infer_same, cpu_keep_on_first, nullptr,
                                                 false, TAKT_CUDA_KERNEL(keep_on_first)));
  return op;
}

const OpDef& local_slice_op() {
  static const OpDef op =
      conversion("local_slice", infer_piece, cpu_local_slice, nullptr, false, TAKT_CUDA_KERNEL(local_slice));
  return op;
}

const OpDef& reduce_scatter_op() {
  static const OpDef op = conversion("reduce_scatter", infer_piece, cpu_reduce_scatter, scatter_scratch, true,
                                     TAKT_CUDA_KERNEL(reduce_scatter));
  return op;
}

}  // namespace takt
