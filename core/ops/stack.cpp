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

template <bool kStacks>
void reference(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const TensorDesc& stacked = kStacks ? args.output(0) : args.input(0);
  const Split s = split_parts(args, stacked);
  for (std::int64_t i = 0; i < stacked.num_elements(); ++i) {
    const std::int64_t part = i / s.inner % s.middle, at = i / s.inner / s.middle * s.inner + i % s.inner;
    if constexpr (kStacks)
      outputs[0].data[i] = inputs[part]->data[at];
    else
      outputs[part].data[at] = inputs[0]->data[i];
  }
}

// Copies runs of whole rows between the stacked tensor and its parts.
template <bool kStacks>
Kernel cpu(const KernelNode& node) {
  const TensorDesc& stacked = kStacks ? node.output(0) : node.input(0);
  const Split s = split_parts(node, stacked);
  const std::size_t row_bytes = s.inner * num_bytes(stacked.dtype);
  return parallel_kernel(node, s.outer, [=](const KernelArgs& k, std::int64_t o) {
    for (std::int64_t part = 0; part < s.middle; ++part) {
      const std::size_t in_stack = (o * s.middle + part) * row_bytes, in_part = o * row_bytes;
      if constexpr (kStacks)
        std::memcpy(k.output<std::byte>(0) + in_stack, k.input<std::byte>(part) + in_part, row_bytes);
      else
        std::memcpy(k.output<std::byte>(part) + in_part, k.input<std::byte>(0) + in_stack, row_bytes);
    }
  });
}

const TensorDesc kPart{{{"batch", 4}, {"heads", 4}}},
    kStacked{{{"batch", 4}, {"qkv", 3}, {"heads", 4}, {"head_dim", 2}}};
const Sample kStack = sample("two parts", {{"a", kPart}, {"b", kPart}},
                             [](Graph&g, const auto&in) { stack(g, in, "part", 1, "y"); }),
             kUnstack = sample("three parts", {{"x", kStacked}},
                               [](Graph&g, const auto&in) { unstack(g, in[0], "qkv", "y"); });

}  // namespace

OpDef stack_record() {
  return {.infer = infer_stack,
          .grad = grad_stack,
          .placement = {.whole_attr = "axis", .linear_in = {{PlacementRule::kAll}}},
          .reference = reference<true>,
          .cpu = {.prepare = cpu<true>, .bf16 = true},
          .samples = {kStack}};
}

OpDef unstack_record() {
  return {.infer = infer_unstack,
          .grad = grad_unstack,
          .placement = {.whole_attr = "axis", .linear_in = {{PlacementRule::kAll}}},
          .reference = reference<false>,
          .cpu = {.prepare = cpu<false>, .bf16 = true},
          .samples = {kUnstack}};
}

ValueId stack(Graph& graph, const std::vector<ValueId>& parts, const Axis& axis, std::int64_t position,
              const std::string& name) {
  return graph.append_one(stack_op(), parts, {{"axis", axis}, {"position", position}}, name);
}

std::vector<ValueId> unstack(Graph& graph, ValueId x, const Axis& axis, const std::string& name) {
  return graph.append(unstack_op(), {x}, {{"axis", axis}}, name);
}

}  // namespace takt
