// Every step of a conversion path is one node; its attributes say which axis, how many ranks, and how they reduce.
#include "core/passes/conversion_nodes.h"

#include "core/ops/builders.h"
#include "core/passes/conversion_path.h"
#include "core/passes/sharding_rules.h"

namespace takt {
namespace {

const OpDef& op_of(const ConversionStep& step) {
  if (step.from.is_partial()) return step.to.is_sharded() ? reduce_scatter_op() : all_reduce_op();
  if (step.from.is_replicated()) return step.to.is_sharded() ? local_slice_op() : keep_on_first_op();
  return step.to.is_sharded() ? all_to_all_op() : all_gather_op();
}

ConversionNode node_of(const ConversionStep& step, const TensorDesc& global, const Mesh& mesh) {
  ConversionNode result{.node = {.op = &op_of(step)},
                        .after = step.after,
                        .desc = {local_dims(global.dims, step.after, mesh), global.dtype}};
  Node& node = result.node;
  std::int64_t num_ranks = 1;
  for (const int m : step.mesh_axes) {
    node.mesh_axes.push_back(mesh.axes[static_cast<std::size_t>(m)].name);
    num_ranks *= mesh.axes[static_cast<std::size_t>(m)].size;
  }
  node.attrs.set("ranks", num_ranks);
  if (step.from.is_partial()) node.attrs.set("op", std::string(name_of(step.from.reduce)));
  if (step.to.is_sharded()) node.attrs.set("axis", step.to.axis);
  if (step.from.is_sharded()) {
    node.attrs.set(step.to.is_sharded() ? "from" : "axis", step.from.axis);
    node.attrs.set("extent", result.desc.extent(step.from.axis));
  }
  return result;
}

}  // namespace

std::vector<ConversionNode> conversion_nodes(const Placement& from, const Placement& to,
                                             const TensorDesc& global, const Mesh& mesh) {
  std::vector<ConversionNode> nodes;
  for (const ConversionStep& step : conversion_path(from, to, global, mesh))
    nodes.push_back(node_of(step, global, mesh));
  return nodes;
}

}  // namespace takt
