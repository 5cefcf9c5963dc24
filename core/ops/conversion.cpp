// conversion: between placements along one mesh axis of n ranks
//
//   all_reduce      y = sum (or max) over ranks of x            local shapes [.., a, ..] -> [.., a, ..]
//   reduce_scatter  this rank's piece of that sum               [.., a, ..] -> [.., ceil(a/n), ..]
//   all_gather      all ranks' pieces side by side              [.., ceil(a/n), ..] -> [.., a, ..]
//   all_to_all      pieces along b become pieces along a        [.., a/n, .., b, ..] -> [.., a, .., b/n, ..]
//   local_slice     this rank's piece, no communication         [.., a, ..] -> [.., ceil(a/n), ..]
//   keep_on_first   x on the first rank, zeros on the others    no communication
//
// Attributes: "ranks" = n, "axis" = a (and "from" = the axis that was sharded, in all_to_all), "extent" = the
// global extent of a in all_gather, "op" = sum or max. Pieces past the end of an uneven axis are zeros.
// Cost      no arithmetic to speak of; what moves is priced by the collectives.
#include "core/ops/builders.h"

#include <algorithm>
#include <cstring>

#include "core/ops/op.h"

namespace takt {
namespace {

// A tensor seen as [outer, axis, inner].
struct AxisView {
  std::int64_t outer = 1, extent = 1, inner = 1;
};

AxisView view_along(const Dims& dims, const Axis& axis) {
  AxisView view;
  bool after = false;
  for (const Dim& dim : dims) {
    if (dim.axis == axis)
      view.extent = dim.extent;
    else
      (after ? view.inner : view.outer) *= dim.extent;
    after = after || dim.axis == axis;
  }
  return view;
}

// Copies elements [from, from + count) along the axis of x to [to, to + count) of y.
void copy_slices(const float* x, const AxisView& from_view, std::int64_t from, float* y,
                 const AxisView& to_view, std::int64_t to, std::int64_t count) {
  for (std::int64_t o = 0; o < from_view.outer; ++o)
    std::copy_n(x + (o * from_view.extent + from) * from_view.inner, count * from_view.inner,
                y + (o * to_view.extent + to) * to_view.inner);
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

Cost cost(const OpArgs& args) {
  return cost_of_traffic(args, 0);
}

// Room for all ranks' pieces in rank order.
std::size_t pieces_bytes(const KernelNode& node) {
  const std::size_t local = std::min(node.input(0).num_bytes(), node.output(0).num_bytes());
  return local * static_cast<std::size_t>(ranks_of(node));
}
// The same, once to send and once to receive; the output has all pieces, padding included.
std::size_t twice_output_bytes(const KernelNode& node) {
  return 2 * node.output(0).num_bytes();
}

Kernel cpu_all_reduce(const KernelNode& node) {
  std::vector<std::int64_t> num_elements;
  for (const TensorDesc& input : node.inputs) num_elements.push_back(input.num_elements());
  return [num_elements, name = node.name, group = node.group, op = reduce_of(node)](const KernelArgs& k) {
    for (std::size_t i = 0; i < num_elements.size(); ++i)
      if (k.inputs[i] != k.outputs[i])
        std::memcpy(k.outputs[i], k.inputs[i], static_cast<std::size_t>(num_elements[i]) * sizeof(float));
    // A bucket's tensors lie side by side (see memory_plan); the gaps between them are zeros.
    float* first = k.output<float>(0);
    const std::ptrdiff_t span = k.output<float>(num_elements.size() - 1) + num_elements.back() - first;
    group->all_reduce(first, static_cast<std::size_t>(span), DType::kF32, op, {name});
  };
}

Kernel cpu_all_gather(const KernelNode& node) {
  const AxisView in = view_along(node.input(0).dims, axis_of(node)),
                 out = view_along(node.output(0).dims, axis_of(node));
  return [=, n = node.input(0).num_elements(), ranks = ranks_of(node), name = node.name,
          group = node.group](const KernelArgs& k) {
    auto* pieces = static_cast<float*>(k.scratch);
    group->all_gather(k.inputs[0], pieces, static_cast<std::size_t>(n), DType::kF32, {name});
    for (std::int64_t r = 0; r < ranks; ++r) {
      const std::int64_t count = std::clamp<std::int64_t>(out.extent - r * in.extent, 0, in.extent);
      copy_slices(pieces + r * n, in, 0, k.output<float>(0), out, r * in.extent, count);
    }
  };
}

// Cuts x into `ranks` pieces along `in`'s axis, zero-padded, one after the other.
void cut(const float* x, const AxisView& in, const AxisView& out, std::int64_t ranks, float* pieces) {
  const std::int64_t n = out.outer * out.extent * out.inner;
  for (std::int64_t r = 0; r < ranks; ++r) {
    const std::int64_t count = std::clamp<std::int64_t>(in.extent - r * out.extent, 0, out.extent);
    if (count < out.extent) std::fill_n(pieces + r * n, n, 0.0f);
    copy_slices(x, in, r * out.extent, pieces + r * n, out, 0, count);
  }
}

Kernel cpu_reduce_scatter(const KernelNode& node) {
  const AxisView in = view_along(node.input(0).dims, axis_of(node)),
                 out = view_along(node.output(0).dims, axis_of(node));
  return [=, n = node.output(0).num_elements(), ranks = ranks_of(node), op = reduce_of(node),
          name = node.name, group = node.group](const KernelArgs& k) {
    auto* pieces = static_cast<float*>(k.scratch);
    cut(k.input<float>(0), in, out, ranks, pieces);
    group->reduce_scatter(pieces, k.outputs[0], static_cast<std::size_t>(n), DType::kF32, op, {name});
  };
}

Kernel cpu_all_to_all(const KernelNode& node) {
  const Axis &to = axis_of(node), &from = node.attrs.axis("from");
  TensorDesc part = node.input(0);  // what one rank sends to another
  part = with_extent(part, to, node.output(0).extent(to));
  const AxisView in_to = view_along(node.input(0).dims, to), part_to = view_along(part.dims, to);
  const AxisView part_from = view_along(part.dims, from), out_from = view_along(node.output(0).dims, from);
  return [=, n = part.num_elements(), ranks = ranks_of(node), name = node.name,
          group = node.group](const KernelArgs& k) {
    auto* send = static_cast<float*>(k.scratch);
    float* receive = send + n * ranks;
    cut(k.input<float>(0), in_to, part_to, ranks, send);
    group->all_to_all(send, receive, static_cast<std::size_t>(n), DType::kF32, {name});
    for (std::int64_t r = 0; r < ranks; ++r)
      copy_slices(receive + r * n, part_from, 0, k.output<float>(0), out_from, r * part_from.extent,
                  part_from.extent);
  };
}

Kernel cpu_local_slice(const KernelNode& node) {
  const AxisView in = view_along(node.input(0).dims, axis_of(node)),
                 out = view_along(node.output(0).dims, axis_of(node));
  const std::int64_t from = node.group->rank() * out.extent,
                     count = std::clamp<std::int64_t>(in.extent - from, 0, out.extent);
  return [=](const KernelArgs& k) {  // f32 and i32 alike: four bytes an element
    float* y = k.output<float>(0);
    if (count < out.extent) std::fill_n(y, out.outer * out.extent * out.inner, 0.0f);
    copy_slices(k.input<float>(0), in, from, y, out, 0, count);
  };
}

Kernel cpu_keep_on_first(const KernelNode& node) {
  return [n = node.input(0).num_elements(), keeps = node.group->rank() == 0](const KernelArgs& k) {
    if (!keeps)
      std::fill_n(k.output<float>(0), n, 0.0f);
    else if (k.inputs[0] != k.outputs[0])
      std::copy_n(k.input<float>(0), n, k.output<float>(0));
  };
}

}  // namespace

const OpDef& all_gather_op() {
  static const OpDef op = {.name = "all_gather",
                           .infer = infer_gather,
                           .cost = cost,
                           .cpu = {cpu_all_gather, pieces_bytes},
                           .needs_group = true,
                           .communicates = true};
  return op;
}

const OpDef& all_reduce_op() {
  static const OpDef op = {.name = "all_reduce",
                           .infer = infer_same,
                           .cost = cost,
                           .cpu = {cpu_all_reduce},
                           .may_overwrite_input = true,
                           .needs_group = true,
                           .communicates = true};
  return op;
}

const OpDef& all_to_all_op() {
  static const OpDef op = {.name = "all_to_all",
                           .infer = infer_all_to_all,
                           .cost = cost,
                           .cpu = {cpu_all_to_all, twice_output_bytes},
                           .needs_group = true,
                           .communicates = true};
  return op;
}

const OpDef& keep_on_first_op() {
  static const OpDef op = {.name = "keep_on_first",
                           .infer = infer_same,
                           .cost = cost,
                           .cpu = {cpu_keep_on_first},
                           .may_overwrite_input = true,
                           .needs_group = true};
  return op;
}

const OpDef& local_slice_op() {
  static const OpDef op = {.name = "local_slice",
                           .infer = infer_piece,
                           .cost = cost,
                           .cpu = {cpu_local_slice},
                           .needs_group = true};
  return op;
}

const OpDef& reduce_scatter_op() {
  static const OpDef op = {.name = "reduce_scatter",
                           .infer = infer_piece,
                           .cost = cost,
                           .cpu = {cpu_reduce_scatter, pieces_bytes},
                           .needs_group = true,
                           .communicates = true};
  return op;
}

}  // namespace takt
