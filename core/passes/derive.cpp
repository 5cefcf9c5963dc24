// derive: nodes without inputs, and casts of parameters, move into programs of their own that assign to derived values.
#include "core/passes/derive.h"

#include <algorithm>

#include "core/graph/rewriter.h"
#include "core/ops/builders.h"

namespace takt {
namespace {

// A fill is cheaper to write than to read.
bool is_constant(const Node& node) {
  return node.inputs.empty() && node.op != &fill_op() && node.outputs.size() == 1;
}

bool is_cast_of_parameter(const Graph& graph, const Node& node) {
  return node.op == &cast_op() && graph.value(node.inputs[0]).role == Role::kParameter;
}

// Does anybody but casts read the parameter?
bool is_read_as_is(const Graph& graph, const Users& users, ValueId parameter) {
  const std::span<const NodeId> readers = users.of(parameter);
  return std::any_of(readers.begin(), readers.end(),
                     [&](NodeId reader) { return !is_cast_of_parameter(graph, graph.node(reader)); });
}

std::string copy_name(const Value& parameter, DType dtype) {
  return std::string(name_of(dtype)) + "." + parameter.name;
}

ValueId derived(Graph& graph, const std::string& name, const TensorDesc& desc, const std::string& of) {
  const std::optional<ValueId> known = graph.find_outside(name);
  return known ? *known : graph.persistent(name, desc, Role::kDerived, of);
}

ValueId copy_of(Graph& graph, const Value& parameter, DType dtype) {
  return derived(graph, copy_name(parameter, dtype), {parameter.desc.dims, dtype}, parameter.name);
}

}  // namespace

Graph reading_derived(const Graph& program, Copies copies) {
  Rewriter rewriter(program, Rewriter::Outside::kUsed);
  const Users users(program);
  for (std::size_t v = 0; copies == Copies::kAll && v < program.values().size(); ++v) {
    const Value& value = program.values()[v];
    if (value.role == Role::kParameter && is_read_as_is(program, users, {static_cast<int>(v)}))
      rewriter.redirect({static_cast<int>(v)}, copy_of(rewriter.graph(), value, value.desc.dtype));
  }
  for (const Node& node : program.nodes()) {
    const Value* output = node.outputs.empty() ? nullptr : &program.value(node.outputs[0]);
    if (is_constant(node))
      rewriter.redirect(node.outputs[0], derived(rewriter.graph(), output->name, output->desc, {}));
    else if (is_cast_of_parameter(program, node))
      rewriter.redirect(node.outputs[0],
                        copy_of(rewriter.graph(), program.value(node.inputs[0]), output->desc.dtype));
    else
      rewriter.copy(node);
  }
  return std::move(rewriter).finish();
}

Graph build_constants(const Graph& program, const Graph& reading) {
  Graph graph;
  for (const Node& node : program.nodes()) {
    if (!is_constant(node)) continue;
    const Value& output = program.value(node.outputs[0]);
    if (!reading.find_outside(output.name) || graph.find_outside(output.name)) continue;
    const ValueId target = derived(graph, output.name, output.desc, {});
    assign(graph, target, graph.append_one(*node.op, {}, node.attrs, output.name + ".computed"),
           output.name + ".assigned");
  }
  return graph;
}

Graph build_refresh(const Graph& program, const Graph& reading) {
  Graph graph;
  graph.set_tag({-1, Phase::kUpdate});
  for (const Value& value : reading.values()) {
    if (value.role != Role::kDerived || value.of.empty()) continue;
    const Value& parameter = program.value(program.find_outside(value.of).value());
    ValueId x = graph.parameter(parameter.name, parameter.desc, parameter.parameter.value());
    if (value.desc.dtype != parameter.desc.dtype) x = cast(graph, x, value.desc.dtype, value.name + ".cast");
    const ValueId target = derived(graph, value.name, {parameter.desc.dims, value.desc.dtype}, value.of);
    assign(graph, target, x, value.name + ".assigned");
  }
  return graph;
}

}  // namespace takt
