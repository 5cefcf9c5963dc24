// stack: y[o, n, i] = x_n[o, i];    unstack: y_n[o, i] = x[o, n, i]
//
// Gradient  the two are each other's gradient.
// Placement elementwise and linear; the stacked axis must be whole.
// Cost      a copy, of any dtype.
#include "core/ops/builders.h"

#include <cstring>

#include "core/ops/op.h"

namespace takt {
namespace {

// The tensor with the stacked axis, seen as [outer, parts, inner].
struct Layout {
  std::int64_t outer = 1, parts = 1, inner = 1;
  // The number of a part and the offset in it of element i.
  std::size_t part(std::int64_t i) const { return static_cast<std::size_t>(i / inner % parts); }
  std::size_t offset(std::int64_t i) const {
    return static_cast<std::size_t>(i / inner / parts * inner + i % inner);
  }
};

Layout layout_of(const Dims& dims, const Axis& axis) {
  Layout layout;
  bool after = false;
  for (const Dim& dim : dims) {
    if (dim.axis == axis)
      layout.parts = dim.extent;
    else
      (after ? layout.inner : layout.outer) *= dim.extent;
    after = after || dim.axis == axis;
  }
  return layout;
}

std::vector<TensorDesc> infer_stack(const OpArgs& args) {
  TensorDesc y = args.input(0);
  for (const TensorDesc& part : args.inputs)
    TAKT_REQUIRE(part == y, "stack '", args.name, "': parts differ, ", y, " and ", part);
  const Axis& axis = args.attrs.axis("axis");
  const std::int64_t position = args.attrs.integer("position");
  TAKT_REQUIRE(!y.has(axis) && position >= 0 && position <= static_cast<std::int64_t>(y.dims.size()),
               "stack '", args.name, "': cannot put axis '", axis, "' at ", position, " of ", y);
  y.dims.insert(y.dims.begin() + position, {axis, static_cast<std::int64_t>(args.inputs.size())});
  return {y};
}

std::vector<TensorDesc> infer_unstack(const OpArgs& args) {
  TensorDesc y = args.input(0);
  const int i = find_axis(y.dims, args.attrs.axis("axis"));
  TAKT_REQUIRE(i >= 0, "unstack '", args.name, "': x ", y, " has no axis '", args.attrs.axis("axis"), "'");
  const auto parts = static_cast<std::size_t>(y.dims[static_cast<std::size_t>(i)].extent);
  y.dims.erase(y.dims.begin() + i);
  return std::vector<TensorDesc>(parts, y);
}

std::vector<std::optional<ValueId>> grad_stack(const GradArgs& args) {
  const auto grads =
      unstack(args.graph, args.output_grads[0].value(), args.node.attrs.axis("axis"), "d." + args.node.name);
  return {grads.begin(), grads.end()};
}

std::vector<std::optional<ValueId>> grad_unstack(const GradArgs& args) {
  std::vector<ValueId> parts;
  for (const std::optional<ValueId>& part : args.output_grads) {
    TAKT_REQUIRE(part.has_value(), "unstack '", args.node.name,
                 "': a part is not used in the loss; leave it out of the model");
    parts.push_back(*part);
  }
  const Axis& axis = args.node.attrs.axis("axis");
  const int position = find_axis(args.graph.value(args.node.inputs[0]).desc.dims, axis);
  return {stack(args.graph, parts, axis, position, "d." + args.node.name)};
}

void reference_stack(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const Layout l = layout_of(args.output(0).dims, args.attrs.axis("axis"));
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(outputs[0].data.size()); ++i)
    outputs[0].data[static_cast<std::size_t>(i)] = inputs[l.part(i)]->data[l.offset(i)];
}

void reference_unstack(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const Layout l = layout_of(args.input(0).dims, args.attrs.axis("axis"));
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(inputs[0]->data.size()); ++i)
    outputs[l.part(i)].data[l.offset(i)] = inputs[0]->data[static_cast<std::size_t>(i)];
}

// Copies runs of whole rows between the stacked tensor and its parts.
Kernel copy_kernel(const KernelNode& node, const TensorDesc& stacked, bool stacks) {
  Layout layout = layout_of(stacked.dims, node.attrs.axis("axis"));
  layout.inner *= static_cast<std::int64_t>(num_bytes(stacked.dtype));
  return [l = layout, stacks, threads = node.num_threads](const KernelArgs& k) {
    const auto bytes = static_cast<std::size_t>(l.inner);
    parallel_for(threads, l.outer, [&](std::int64_t o) {
      for (std::int64_t p = 0; p < l.parts; ++p) {
        const auto part = static_cast<std::size_t>(p);
        const std::int64_t row = (o * l.parts + p) * l.inner;
        if (stacks)
          std::memcpy(k.output<std::byte>(0) + row, k.input<std::byte>(part) + o * l.inner, bytes);
        else
          std::memcpy(k.output<std::byte>(part) + o * l.inner, k.input<std::byte>(0) + row, bytes);
      }
    });
  };
}

Kernel cpu_stack(const KernelNode& node) {
  return copy_kernel(node, node.output(0), true);
}
Kernel cpu_unstack(const KernelNode& node) {
  return copy_kernel(node, node.input(0), false);
}

}  // namespace

const OpDef& stack_op() {
  static const OpDef op = {.name = "stack",
                           .infer = infer_stack,
                           .grad = grad_stack,
                           .placement = {.whole_attr = "axis", .linear_in = {{PlacementRule::kAll}}},
                           .reference = reference_stack,
                           .cpu = {.prepare = cpu_stack, .bf16 = true},
                           .samples = {{.name = "two parts", .build = [](Graph& g) {
                                          const TensorDesc part{{{"batch", 4}, {"heads", 4}}, DType::kF32};
                                          const ValueId a = g.input("a", part), b = g.input("b", part);
                                          stack(g, {a, b}, "part", 1, "y");
                                        }}}};
  return op;
}

const OpDef& unstack_op() {
  static const OpDef op = {
      .name = "unstack",
      .infer = infer_unstack,
      .grad = grad_unstack,
      .placement = {.whole_attr = "axis", .linear_in = {{PlacementRule::kAll}}},
      .reference = reference_unstack,
      .cpu = {.prepare = cpu_unstack, .bf16 = true},
      .samples = {
          {.name = "three parts", .build = [](Graph& g) {
             unstack(g,
                     g.input("x", {{{"batch", 4}, {"qkv", 3}, {"heads", 4}, {"head_dim", 2}}, DType::kF32}),
                     "qkv", "y");
           }}}};
  return op;
}

ValueId stack(Graph& graph, const std::vector<ValueId>& parts, const Axis& axis, std::int64_t position,
              const std::string& name) {
  return graph.append_one(stack_op(), parts, {{"axis", axis}, {"position", position}}, name);
}

std::vector<ValueId> unstack(Graph& graph, ValueId x, const Axis& axis, const std::string& name) {
  return graph.append(unstack_op(), {x}, {{"axis", axis}}, name);
}

}  // namespace takt
