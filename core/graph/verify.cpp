// The checks that run on every finished program, and after every pass where somebody watches.
#include <unordered_set>

#include "core/graph/look_alikes.h"
#include "core/graph/started.h"

namespace takt {
namespace {

void check_order(const Graph& graph, std::string_view pass) {
  std::vector<bool> ready(graph.values().size());
  for (std::size_t i = 0; i < ready.size(); ++i) ready[i] = graph.values()[i].role != Role::kIntermediate;
  for (const Node& node : graph.nodes()) {
    for (const ValueId id : node.inputs)
      TAKT_ASSERT(ready[static_cast<std::size_t>(id.index)], "after ", pass, ": node '", node.name,
                  "' reads '", graph.value(id).name, "' before it is computed");
    for (const ValueId id : node.outputs) ready[static_cast<std::size_t>(id.index)] = true;
  }
  for (const ValueId id : graph.outputs())
    TAKT_ASSERT(ready[static_cast<std::size_t>(id.index)], "after ", pass, ": output '", graph.value(id).name,
                "' is never computed");
}

void check_names(const Graph& graph, std::string_view pass) {
  std::unordered_set<std::string_view> names;
  for (const Value& value : graph.values())
    if (value.role != Role::kIntermediate)
      TAKT_ASSERT(names.insert(value.name).second, "after ", pass, ": two values are called '", value.name,
                  "'");
}

void check_shapes(const Graph& graph, const LookAlikes& alike, std::string_view pass) {
  for (const NodeId first : alike.first_nodes()) {
    const Node& node = graph.node(first);
    OpArgs args = graph.args_of(node);
    const std::vector<TensorDesc> found = std::move(args.outputs);
    args.outputs.clear();
    const std::vector<TensorDesc> wanted = node.op->infer(args);
    TAKT_ASSERT(wanted.size() == found.size(), "after ", pass, ": node '", node.name, "' has ", found.size(),
                " outputs, its rule says ", wanted.size());
    for (std::size_t i = 0; i < wanted.size(); ++i)
      TAKT_ASSERT(wanted[i] == found[i], "after ", pass, ": node '", node.name, "' (", node.op->name,
                  ") output ", i, " is ", found[i], ", its rule says ", wanted[i]);
  }
}

// An in-place node must be the last reader of what it overwrites.
void check_in_place(const Graph& graph, std::string_view pass) {
  std::vector<std::string_view> overwritten_by(graph.values().size());
  for (const Node& node : graph.nodes()) {
    for (const ValueId id : node.inputs)
      TAKT_ASSERT(overwritten_by[static_cast<std::size_t>(id.index)].empty(), "after ", pass, ": node '",
                  node.name, "' reads '", graph.value(id).name, "', which '",
                  overwritten_by[static_cast<std::size_t>(id.index)], "' has overwritten");
    for (const auto& [output, input] : node.op->in_place)
      overwritten_by[static_cast<std::size_t>(node.inputs[static_cast<std::size_t>(input)].index)] =
          node.name;
  }
  for (const ValueId id : graph.outputs())
    TAKT_ASSERT(overwritten_by[static_cast<std::size_t>(id.index)].empty(), "after ", pass, ": output '",
                graph.value(id).name, "' is overwritten by '",
                overwritten_by[static_cast<std::size_t>(id.index)], "'");
}

// Every started collective has one done, which alone reads what it writes; until then nobody overwrites what it reads.
class StartChecker {
 public:
  StartChecker(const Graph& graph, std::string_view pass)
      : graph_(graph), pass_(pass), is_open_(graph.nodes().size()), open_readers_(graph.values().size()) {}

  void check() {
    for (std::size_t n = 0; n < graph_.nodes().size(); ++n) {
      const Node& node = graph_.nodes()[n];
      TAKT_ASSERT(node.stream == 0 || node.op->communicates, "after ", pass_, ": node '", node.name, "' (",
                  node.op->name, ") computes on stream ", node.stream, ", which communicates");
      if (node.op->awaits)
        close(node);
      else
        check_access(node);
      if (is_started(node)) open(n);
    }
    for (std::size_t n = 0; n < is_open_.size(); ++n)
      TAKT_ASSERT(!is_open_[n], "after ", pass_, ": collective '", graph_.nodes()[n].name,
                  "' is started and never done");
    for (const ValueId id : graph_.outputs())
      TAKT_ASSERT(start_of(id) == nullptr, "after ", pass_, ": output '", graph_.value(id).name,
                  "' is read before the collective that writes it is done");
  }

 private:
  // The started collective that writes the value, or null.
  const Node* start_of(ValueId id) const {
    const NodeId producer = graph_.value(id).producer;
    return producer.index >= 0 && is_started(graph_.node(producer)) ? &graph_.node(producer) : nullptr;
  }

  void open(std::size_t n) {
    is_open_[n] = true;
    for (const ValueId id : graph_.nodes()[n].inputs) ++open_readers_[static_cast<std::size_t>(id.index)];
  }

  void close(const Node& done) {
    const Node* start = done.inputs.empty() ? nullptr : start_of(done.inputs[0]);
    TAKT_ASSERT(start != nullptr && start->outputs == done.inputs, "after ", pass_, ": done '", done.name,
                "' does not read what one started collective writes");
    const auto n = static_cast<std::size_t>(graph_.value(done.inputs[0]).producer.index);
    TAKT_ASSERT(is_open_[n], "after ", pass_, ": collective '", start->name, "' is done twice");
    is_open_[n] = false;
    for (const ValueId id : start->inputs) --open_readers_[static_cast<std::size_t>(id.index)];
  }

  void check_access(const Node& node) const {
    for (const ValueId id : node.inputs)
      TAKT_ASSERT(start_of(id) == nullptr, "after ", pass_, ": node '", node.name, "' reads '",
                  graph_.value(id).name, "' beside the done of the collective that writes it");
    for (const auto& [output, input] : node.op->in_place) {
      const ValueId id = node.inputs[static_cast<std::size_t>(input)];
      TAKT_ASSERT(open_readers_[static_cast<std::size_t>(id.index)] == 0, "after ", pass_, ": node '",
                  node.name, "' overwrites '", graph_.value(id).name, "', which a started collective reads");
    }
  }

  const Graph& graph_;
  std::string_view pass_;
  std::vector<bool> is_open_;      // by node
  std::vector<int> open_readers_;  // by value: how many started collectives read it that are not done
};

// A mesh axis cuts a value along one of its own tensor axes; several may cut the same one.
void check_placements(const Graph& graph, std::string_view pass) {
  for (const Value& value : graph.values())
    for (const AxisPlacement& placement : value.placement)
      TAKT_ASSERT(!placement.is_sharded() || value.desc.has(placement.axis), "after ", pass, ": value '",
                  value.name, "' ", value.desc, " cannot be placed as ", to_string(value.placement));
}

}  // namespace

void verify(const Graph& graph, std::string_view after_pass) {
  verify(graph, LookAlikes(graph), after_pass);
}

void verify(const Graph& graph, const LookAlikes& alike, std::string_view after_pass) {
  check_order(graph, after_pass);
  check_names(graph, after_pass);
  check_shapes(graph, alike, after_pass);
  check_in_place(graph, after_pass);
  StartChecker(graph, after_pass).check();
  check_placements(graph, after_pass);
}

}  // namespace takt
