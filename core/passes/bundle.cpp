// bundle: nodes that go together are found first; one walk then puts each bundle where one of them stood.
#include "core/passes/bundle.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "core/graph/rewriter.h"
#include "core/ops/builders.h"

namespace takt {
namespace {

bool gathers_storage(const Graph& graph, const Node& node) {
  return node.op == &all_gather_op() && node.tag.block >= 0 &&
         is_persistent(graph.value(node.inputs[0]).role);
}

// Is the result summed into an accumulator, and read by nobody else?
bool scatters_gradient(const Graph& graph, const Users& users, const Node& node) {
  if (node.op != &reduce_scatter_op() || node.tag.block < 0 ||
      graph.value(node.inputs[0]).desc.dtype != DType::kF32)
    return false;
  const std::span<const NodeId> readers = users.of(node.outputs[0]);
  return readers.size() == 1 && graph.node(readers[0]).op->defers_reduction;
}

struct Bundle {
  bool is_scatter = false;
  std::vector<int> members = {};  // nodes
  std::vector<int> sums = {};     // read what is scattered; not written yet
  bool is_written = false;
};

struct Bundles {
  std::vector<int> of_node;  // of the bundle that a node or what it sums goes with; -1: none
  std::vector<Bundle> all;
};

using Key = std::tuple<const OpDef*, int, Phase, std::string, DType, std::string>;
Key key_of(const Graph& graph, const Node& node) {
  return {node.op,
          node.tag.block,
          node.tag.phase,
          to_string(node.mesh_axes),
          graph.value(node.inputs[0]).desc.dtype,
          node.attrs.has("op") ? node.attrs.text("op") : ""};
}

Bundles find_bundles(const Graph& graph) {
  Bundles bundles{.of_node = std::vector<int>(graph.nodes().size(), -1), .all = {}};
  const Users users(graph);
  std::map<Key, int> known;
  for (std::size_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& node = graph.nodes()[n];
    const bool is_scatter = scatters_gradient(graph, users, node);
    if (!is_scatter && !gathers_storage(graph, node)) continue;
    const auto [entry, is_new] = known.try_emplace(key_of(graph, node), static_cast<int>(bundles.all.size()));
    if (is_new) bundles.all.push_back({.is_scatter = is_scatter});
    bundles.all[static_cast<std::size_t>(entry->second)].members.push_back(static_cast<int>(n));
    bundles.of_node[n] = entry->second;
    if (is_scatter)
      bundles.of_node[static_cast<std::size_t>(users.of(node.outputs[0])[0].index)] = entry->second;
  }
  return bundles;
}

class Writer {
 public:
  Writer(const Graph& graph, Bundles bundles)
      : graph_(graph), bundles_(std::move(bundles)), rewriter_(graph) {}

  Graph run() && {
    for (std::size_t n = 0; n < graph_.nodes().size(); ++n) {
      const Node& node = graph_.nodes()[n];
      if (bundles_.of_node[n] < 0) {
        rewriter_.copy(node);
        continue;
      }
      Bundle& bundle = bundles_.all[static_cast<std::size_t>(bundles_.of_node[n])];
      if (node.op->defers_reduction) {
        bundle.sums.push_back(static_cast<int>(n));
        if (bundle.is_written) write_sums(bundle);
      } else if (static_cast<int>(n) ==
                 (bundle.is_scatter ? bundle.members.back() : bundle.members.front())) {
        write(bundle);
      }
    }
    return std::move(rewriter_).finish();
  }

 private:
  void write(Bundle& bundle) {
    Node joined = graph_.node(NodeId{bundle.members.front()});
    std::vector<ValueId> outputs;
    std::vector<Dim> pieces;
    joined.inputs.clear();
    for (const int n : bundle.members) {
      const Node& member = graph_.node(NodeId{n});
      const TensorDesc& whole = graph_.value(bundle.is_scatter ? member.inputs[0] : member.outputs[0]).desc;
      const Axis& axis = member.attrs.axis("axis");
      pieces.push_back({axis, whole.extent(axis)});
      joined.inputs.push_back(member.inputs[0]);
      outputs.push_back(member.outputs[0]);
    }
    if (bundle.members.size() > 1) {
      Attrs attrs{{"ranks", joined.attrs.integer("ranks")}, {"pieces", pieces}};
      if (joined.attrs.has("op")) attrs.set("op", joined.attrs.text("op"));
      joined.attrs = std::move(attrs);
      joined.name += " and " + std::to_string(outputs.size() - 1) + " more";
    }
    rewriter_.copy_as(std::move(joined), outputs);
    bundle.is_written = true;
    write_sums(bundle);
  }

  void write_sums(Bundle& bundle) {
    for (const int n : bundle.sums) rewriter_.copy(graph_.node(NodeId{n}));
    bundle.sums.clear();
  }

  const Graph& graph_;
  Bundles bundles_;
  Rewriter rewriter_;
};

}  // namespace

Graph bundled_by_layer(Graph graph) {
  Bundles bundles = find_bundles(graph);
  const bool any = std::any_of(bundles.all.begin(), bundles.all.end(),
                               [](const Bundle& bundle) { return bundle.members.size() > 1; });
  if (!any) return graph;
  return Writer(graph, std::move(bundles)).run();
}

}  // namespace takt
