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

class Bundler {
 public:
  explicit Bundler(const Graph& graph)
      : graph_(graph), bundle_of_(graph.nodes().size(), -1), rewriter_(graph) {
    const Users users(graph);
    std::map<Key, int> known;
    for (std::size_t n = 0; n < graph.nodes().size(); ++n) {
      const Node& node = graph.nodes()[n];
      const bool is_scatter = scatters_gradient(graph, users, node);
      if (!is_scatter && !gathers_storage(graph, node)) continue;
      const auto [entry, is_new] = known.try_emplace(key_of(node), static_cast<int>(bundles_.size()));
      if (is_new) bundles_.push_back({.is_scatter = is_scatter});
      bundles_[static_cast<std::size_t>(entry->second)].members.push_back(static_cast<int>(n));
      bundle_of_[n] = entry->second;
      if (is_scatter)
        bundle_of_[static_cast<std::size_t>(users.of(node.outputs[0])[0].index)] = entry->second;
    }
  }

  bool finds_any() const {
    return std::any_of(bundles_.begin(), bundles_.end(),
                       [](const Bundle& b) { return b.members.size() > 1; });
  }

  Graph run() && {
    for (std::size_t n = 0; n < graph_.nodes().size(); ++n) {
      const Node& node = graph_.nodes()[n];
      if (bundle_of_[n] < 0) {
        rewriter_.copy(node);
        continue;
      }
      Bundle& bundle = bundles_[static_cast<std::size_t>(bundle_of_[n])];
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
  using Key = std::tuple<const OpDef*, int, Phase, std::string, DType, std::string>;
  struct Bundle {
    bool is_scatter = false;
    std::vector<int> members = {};
    std::vector<int> sums = {};  // read what is scattered; not written yet
    bool is_written = false;
  };

  Key key_of(const Node& node) const {
    return {node.op,
            node.tag.block,
            node.tag.phase,
            to_string(node.mesh_axes),
            graph_.value(node.inputs[0]).desc.dtype,
            node.attrs.has("op") ? node.attrs.text("op") : ""};
  }

  void write(Bundle& bundle) {
    Node joined = graph_.node({bundle.members.front()});
    std::vector<ValueId> outputs;
    std::vector<Dim> pieces;
    joined.inputs.clear();
    for (const int n : bundle.members) {
      const Node& member = graph_.node({n});
      const TensorDesc& whole = graph_.value(bundle.is_scatter ? member.inputs[0] : member.outputs[0]).desc;
      pieces.push_back({member.attrs.axis("axis"), whole.extent(member.attrs.axis("axis"))});
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
    for (const int n : bundle.sums) rewriter_.copy(graph_.node({n}));
    bundle.sums.clear();
  }

  const Graph& graph_;
  std::vector<int> bundle_of_;  // by node: of the bundle that it or what it sums goes with; -1: none
  std::vector<Bundle> bundles_;
  Rewriter rewriter_;
};

}  // namespace

Graph bundled_by_layer(Graph graph) {
  Bundler bundler(graph);
  if (!bundler.finds_any()) return graph;
  return std::move(bundler).run();
}

}  // namespace takt
