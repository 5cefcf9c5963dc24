// stack: y[o, n, i] = x_n[o, i];    unstack: y_n[o, i] = x[o, n, i]
//
// Gradient  the two are each other's gradient.
// Placement elementwise and linear; the stacked axis must be whole.
// Cost      a copy, of any dtype.
#include <cstring>

#include "core/ops/op.h"

namespace takt {
namespace {

// The tensor with the stacked axis; its parts are its middle.
Split split_parts(const OpArgs& args, const TensorDesc& stacked) {
  return split_around(args, stacked.dims, {args.attrs.axis("axis")});
}

std::vector<TensorDesc> infer_stack(const OpArgs& args) {
  TensorDesc y = infer_alike(args)[0];
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

Gradients grad_stack(const GradArgs& args) {
  const auto grads = unstack(args.graph, dy_of(args), args.node.attrs.axis("axis"), "d." + args.node.name);
  return {grads.begin(), grads.end()};
}

Gradients grad_unstack(const GradArgs& args) {
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

// Calls move(element of the stacked tensor, part, element of the part) for all elements.
template <class Move>
void for_each_element(const OpArgs& args, const TensorDesc& stacked, const Move& move) {
  const Split s = split_parts(args, stacked);
  for (std::int64_t i = 0; i < stacked.num_elements(); ++i)
    move(i, i / s.inner % s.middle, i / s.inner / s.middle * s.inner + i % s.inner);
}

void reference_stack(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for_each_element(args, args.output(0), [&](std::int64_t i, std::int64_t part, std::int64_t at) {
    outputs[0].data[i] = inputs[part]->data[at];
  });
}

void reference_unstack(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for_each_element(args, args.input(0), [&](std::int64_t i, std::int64_t part, std::int64_t at) {
    outputs[part].data[at] = inputs[0]->data[i];
  });
}

// Copies runs of whole rows between the stacked tensor and its parts.
Kernel copy_kernel(const KernelNode& node, const TensorDesc& stacked, bool stacks) {
  const Split s = split_parts(node, stacked);
  const std::size_t row_bytes = s.inner * num_bytes(stacked.dtype);
  return parallel_kernel(node, s.outer, [=](const KernelArgs& k, std::int64_t o) {
    for (std::int64_t part = 0; part < s.middle; ++part) {
      const std::size_t in_stack = (o * s.middle + part) * row_bytes, in_part = o * row_bytes;
      if (stacks)
        std::memcpy(k.output<std::byte>(0) + in_stack, k.input<std::byte>(part) + in_part, row_bytes);
      else
        std::memcpy(k.output<std::byte>(part) + in_part, k.input<std::byte>(0) + in_stack, row_bytes);
    }
  });
}

Kernel cpu_stack(const KernelNode& node) {
  return copy_kernel(node, node.output(0), true);
}
Kernel cpu_unstack(const KernelNode& node) {
  return copy_kernel(node, node.input(0), false);
}

void build_stack(Graph& g) {
  const TensorDesc part{{{"batch", 4}, {"heads", 4}}};
  const ValueId a = g.input("a", part), b = g.input("b", part);
  stack(g, {a, b}, "part", 1, "y");
}

void build_unstack(Graph& g) {
  const TensorDesc x{{{"batch", 4}, {"qkv", 3}, {"heads", 4}, {"head_dim", 2}}};
  unstack(g, g.input("x", x), "qkv", "y");
}

}  // namespace

const OpDef& stack_op() {
  static const OpDef op = {.name = "stack",
                           .infer = infer_stack,
                           .grad = grad_stack,
                           .placement = {.whole_attr = "axis", .linear_in = {{PlacementRule::kAll}}},
                           .reference = reference_stack,
                           .cpu = {.prepare = cpu_stack, .bf16 = true},
                           .cuda = TAKT_CUDA_KERNEL(stack),
                           .samples = {{.name = "two parts", .build = build_stack}}};
  return op;
}

const OpDef& unstack_op() {
  static const OpDef op = {.name = "unstack",
                           .infer = infer_unstack,
                           .grad = grad_unstack,
                           .placement = {.whole_attr = "axis", .linear_in = {{PlacementRule::kAll}}},
                           .reference = reference_unstack,
                           .cpu = {.prepare = cpu_unstack, .bf16 = true},
                           .cuda = TAKT_CUDA_KERNEL(unstack),
                           .samples = {{.name = "three parts", .build = build_unstack}}};
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
