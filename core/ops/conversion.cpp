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
// after all_gather, "op" = sum or max. Pieces past the end of an uneven axis are zeros. A gather or scatter of several
// tensors of one dtype (see bundle) has "pieces" instead: a and its extent of each. Those of bf16 are not scattered.
// Dtypes    any; bf16 is reduced as f32 in scratch and rounded once.
// Scratch   holds all ranks' pieces in rank order where they do not lie so in the tensor already: they do if a is the
//           leading axis and divides evenly.
// Cost      no arithmetic to speak of; what moves is priced by the collectives.
#include <algorithm>
#include <cstring>

#include "core/ops/builders.h"
#include "core/ops/conversion_kernels.h"
#include "core/ops/elementwise.h"

namespace takt {
namespace {

struct Cpu {
  static void copy(const void* x, void* y, std::size_t num_bytes, StreamHandle) {
    std::memcpy(y, x, num_bytes);
  }
  static void clear(void* y, std::size_t num_bytes, StreamHandle) { std::memset(y, 0, num_bytes); }

  // Elements [from, from + count) along the axis of x to [to, to + count) of y.
  static void copy_slices(const void* x, const AxisBytes& x_view, std::int64_t from, void* y,
                          const AxisBytes& y_view, std::int64_t to, std::int64_t count) {
    for (std::int64_t o = 0; count > 0 && o < x_view.outer; ++o)
      std::memcpy(static_cast<std::byte*>(y) + (o * y_view.extent + to) * y_view.inner,
                  static_cast<const std::byte*>(x) + (o * x_view.extent + from) * x_view.inner,
                  static_cast<std::size_t>(count * x_view.inner));
  }
  static void slice(const void* x, const AxisBytes& x_view, std::int64_t from, void* y,
                    const AxisBytes& y_view, std::int64_t count, StreamHandle) {
    copy_slices(x, x_view, from, y, y_view, 0, count);
  }

  // Calls f(piece's first byte, its first element along the whole axis, how many of its elements are in the whole).
  template <class Byte, class F>
  static void for_each_piece(Byte* pieces, const WholeAndPiece& v, const F& f) {
    for (std::int64_t r = 0; r < v.ranks; ++r)
      f(pieces + r * v.stride, r * v.piece.extent,
        std::clamp<std::int64_t>(v.whole.extent - r * v.piece.extent, 0, v.piece.extent));
  }
  static void cut(const void* x, const WholeAndPiece& v, void* pieces, StreamHandle) {
    for_each_piece(static_cast<std::byte*>(pieces), v, [&](auto* y, std::int64_t from, std::int64_t count) {
      if (count < v.piece.extent) std::memset(y, 0, static_cast<std::size_t>(v.piece.num_bytes()));
      copy_slices(x, v.whole, from, y, v.piece, 0, count);
    });
  }
  static void join(const void* pieces, const WholeAndPiece& v, void* y, StreamHandle) {
    for_each_piece(static_cast<const std::byte*>(pieces), v,
                   [&](auto* x, std::int64_t to, std::int64_t count) {
                     copy_slices(x, v.piece, 0, y, v.whole, to, count);
                   });
  }
};

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
// Of one tensor, or of several in one message.
std::vector<TensorDesc> infer_scatter(const OpArgs& args) {
  std::vector<TensorDesc> pieces;
  for (std::size_t i = 0; i < args.inputs.size(); ++i) {
    const Axis axis = cut_of(args, i).axis;
    pieces.push_back(with_extent(args.input(i), axis, piece(args.input(i).extent(axis), ranks_of(args))));
  }
  return pieces;
}
std::vector<TensorDesc> infer_gather(const OpArgs& args) {
  std::vector<TensorDesc> wholes;
  for (std::size_t i = 0; i < args.inputs.size(); ++i) {
    const Dim cut = cut_of(args, i);
    wholes.push_back(with_extent(args.input(i), cut.axis, cut.extent));
  }
  return wholes;
}
std::vector<TensorDesc> infer_all_to_all(const OpArgs& args) {
  const Axis& from = args.attrs.axis("from");
  return {with_extent(infer_piece(args)[0], from, args.input(0).extent(from) * ranks_of(args))};
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
Kernel cpu_all_reduce(const KernelNode& node) {
  if (node.input(0).dtype != DType::kBF16) return all_reduce_kernel<Cpu>(node);
  return [inputs = node.inputs, name = node.name, group = node.group,
          op = reduce_of(node)](const KernelArgs& k) {
    auto* wide = static_cast<float*>(k.scratch);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const std::int64_t n = inputs[i].num_elements();
      convert(k.input<BF16>(i), wide, n);
      group->all_reduce(wide, static_cast<std::size_t>(n), DType::kF32, op, {name});
      convert(wide, k.output<BF16>(i), n);
    }
  };
}

// Scatters x in f32.
Scatter<Cpu> wide_scatter(const KernelNode& node) {
  const TensorDesc x = as_f32(node.input(0)), y = as_f32(node.output(0));
  return {WholeAndPiece(node, axis_of(node), x, y), y, reduce_of(node)};
}

// bf16: first the f32 copy of x, then its pieces if they do not lie in rank order, then the f32 result.
std::size_t cpu_scatter_scratch(const KernelNode& node) {
  if (node.input(0).dtype != DType::kBF16) return scatter_scratch(node);
  return f32_bytes(node.input(0)) + wide_scatter(node).v.scratch_bytes() + f32_bytes(node.output(0));
}

Kernel cpu_reduce_scatter(const KernelNode& node) {
  if (node.input(0).dtype != DType::kBF16) return reduce_scatter_kernel<Cpu>(node);
  return [scatter = wide_scatter(node), num_x = node.input(0).num_elements(),
          num_y = node.output(0).num_elements(), name = node.name, group = node.group](const KernelArgs& k) {
    auto* wide_x = static_cast<float*>(k.scratch);
    auto* pieces = reinterpret_cast<std::byte*>(wide_x + num_x);
    auto* wide_y = reinterpret_cast<float*>(pieces + scatter.v.scratch_bytes());
    convert(k.input<BF16>(0), wide_x, num_x);
    scatter.run(wide_x, wide_y, pieces, *group, {name});
    convert(wide_y, k.output<BF16>(0), num_y);
  };
}

Cost cost_nothing(const OpArgs&) {
  return {};
}

// What all conversions have in common. Those whose output is as large as their input may overwrite it.
OpDef conversion(std::vector<TensorDesc> (*infer)(const OpArgs&), Kernel (*prepare)(const KernelNode&),
                 bool communicates, std::size_t (*scratch_bytes)(const KernelNode&) = nullptr) {
  return {.infer = infer,
          .cpu = {.prepare = prepare, .scratch_bytes = scratch_bytes, .bf16 = true},
          .may_overwrite_input = infer == infer_same,
          .needs_group = true,
          .communicates = communicates};
}

}  // namespace

OpDef all_gather_record() {
  return conversion(infer_gather, all_gather_kernel<Cpu>, true, gather_scratch);
}
OpDef all_reduce_record() {
  OpDef op = conversion(infer_same, cpu_all_reduce, true, all_reduce_scratch);
  op.side_by_side = true;
  return op;
}
OpDef all_to_all_record() {
  return conversion(infer_all_to_all, all_to_all_kernel<Cpu>, true, exchange_scratch);
}
OpDef reduce_scatter_record() {
  return conversion(infer_scatter, cpu_reduce_scatter, true, cpu_scatter_scratch);
}
OpDef keep_on_first_record() {
  return conversion(infer_same, keep_on_first_kernel<Cpu>, false);
}
OpDef local_slice_record() {
  return conversion(infer_piece, local_slice_kernel<Cpu>, false);
}

OpDef done_record() {
  return {.infer = infer_same,
          .cost = cost_nothing,
          .cpu = {.prepare = done_kernel, .bf16 = true},
          .awaits = true};
}

}  // namespace takt
