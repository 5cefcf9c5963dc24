// Pieces lie in rank order in the whole if the axis leads and divides evenly.
#include "core/ops/conversion_layout.h"

#include "core/ops/shape_rules.h"

namespace takt {

std::int64_t ranks_of(const OpArgs& args) {
  return args.attrs.integer("ranks");
}
const Axis& axis_of(const OpArgs& args) {
  return args.attrs.axis("axis");
}
Dim cut_of(const OpArgs& args, std::size_t i) {
  if (args.attrs.has("pieces")) return args.attrs.list("pieces").at(i);
  return {axis_of(args), args.attrs.has("extent") ? args.attrs.integer("extent") : 0};
}
ReduceOp reduce_of(const OpArgs& args) {
  return args.attrs.text("op") == "max" ? ReduceOp::kMax : ReduceOp::kSum;
}

AxisBytes view_along(const OpArgs& args, const TensorDesc& desc, const Axis& axis) {
  const Split s = split_around(args, desc.dims, {axis});
  return {s.outer, s.middle, s.inner * static_cast<std::int64_t>(num_bytes(desc.dtype))};
}

TensorDesc with_extent(TensorDesc desc, const Axis& axis, std::int64_t extent) {
  const int i = find_axis(desc.dims, axis);
  TAKT_ASSERT(i >= 0, "conversion: no axis '", axis, "' in ", desc);
  desc.dims[static_cast<std::size_t>(i)].extent = extent;
  return desc;
}

WholeAndPiece::WholeAndPiece(const OpArgs& args, const Axis& axis, const TensorDesc& whole_desc,
                             const TensorDesc& piece_desc)
    : whole(view_along(args, whole_desc, axis)),
      piece(view_along(args, piece_desc, axis)),
      ranks(ranks_of(args)),
      stride(piece.num_bytes()),
      direct(whole.outer == 1 && whole.extent == piece.extent * ranks) {}

std::size_t WholeAndPiece::scratch_bytes() const {
  return direct ? 0 : static_cast<std::size_t>(ranks * piece.num_bytes());
}

WholeAndPiece gathered(const OpArgs& args) {
  return {args, axis_of(args), args.output(0), args.input(0)};
}
WholeAndPiece scattered(const OpArgs& args) {
  return {args, axis_of(args), args.input(0), args.output(0)};
}

Bundle bundle_of(const OpArgs& args, const std::vector<TensorDesc>& wholes,
                 const std::vector<TensorDesc>& pieces) {
  Bundle bundle;
  bundle.ranks = ranks_of(args);
  for (std::size_t i = 0; i < wholes.size(); ++i) {
    bundle.tensors.emplace_back(args, cut_of(args, i).axis, wholes[i], pieces[i]);
    bundle.offsets.push_back(bundle.part_bytes);
    bundle.part_bytes += bundle.tensors.back().piece.num_bytes();
    bundle.num_elements += static_cast<std::size_t>(pieces[i].num_elements());
  }
  for (WholeAndPiece& tensor : bundle.tensors) {
    tensor.stride = bundle.part_bytes;
    tensor.direct = false;
  }
  return bundle;
}

Exchange::Exchange(const OpArgs& args)
    : part(with_extent(args.input(0), axis_of(args), args.output(0).extent(axis_of(args)))),
      sent(args, axis_of(args), args.input(0), part),
      received(args, args.attrs.axis("from"), args.output(0), part) {}

std::size_t gather_scratch(const KernelNode& node) {
  if (node.inputs.size() > 1) return bundle_of(node, node.outputs, node.inputs).scratch_bytes();
  return gathered(node).scratch_bytes();
}
std::size_t scatter_scratch(const KernelNode& node) {
  if (node.inputs.size() > 1) return bundle_of(node, node.inputs, node.outputs).scratch_bytes();
  return scattered(node).scratch_bytes();
}
std::size_t exchange_scratch(const KernelNode& node) {
  const Exchange e(node);
  return e.sent.scratch_bytes() + e.received.scratch_bytes();
}

}  // namespace takt
