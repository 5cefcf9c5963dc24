// memory_plan: liveness, sharing of storage between inputs and outputs, and packing.
#include "core/passes/memory_plan.h"

#include <algorithm>
#include <numeric>

#include "core/graph/started.h"
#include "core/passes/occupied.h"
#include "core/passes/shard_ranges.h"

namespace takt {

std::size_t aligned(std::size_t num_bytes) {
  return (num_bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
}

namespace {

// Joins values that live in the same storage.
class Storages {
 public:
  explicit Storages(const Graph& graph)
      : graph_(graph),
        ends_(ends_of(graph)),
        parent_(graph.values().size()),
        last_read_(graph.values().size(), -1),
        needed_until_(graph.values().size(), -1) {
    std::iota(parent_.begin(), parent_.end(), 0);
    const auto num_nodes = static_cast<int>(graph.nodes().size());
    for (int n = 0; n < num_nodes; ++n)
      for (const ValueId id : node(n).inputs) last_read_[index(id)] = n;
    for (const ValueId id : graph.outputs()) last_read_[index(id)] = needed_until_[index(id)] = num_nodes;
    for (int n = 0; n < num_nodes; ++n) {
      join_node(n);
      for (const ValueId id : node(n).inputs)
        needed_until_[index(id)] = std::max(needed_until_[index(id)], end(n));
    }
  }

  // The value that stands for the storage; an outside value if there is one.
  std::size_t root(std::size_t value) const {
    while (parent_[value] != value) value = parent_[value];
    return value;
  }
  // The node at which the last reader is over; -1: nobody reads it.
  int needed_until(std::size_t value) const { return needed_until_[value]; }
  // The node at which node n is over.
  int end(int n) const { return ends_[static_cast<std::size_t>(n)]; }

 private:
  static std::size_t index(ValueId id) { return static_cast<std::size_t>(id.index); }
  const Node& node(int n) const { return graph_.nodes()[static_cast<std::size_t>(n)]; }

  void join_node(int n) {
    const Node& joining = node(n);
    for (const auto& [output, input] : joining.op->in_place)
      join(joining.inputs[static_cast<std::size_t>(input)],
           joining.outputs[static_cast<std::size_t>(output)]);
    for (std::size_t i = 0; joining.op->awaits && i < joining.inputs.size(); ++i)
      join(joining.inputs[i], joining.outputs[i]);
    if (!joining.op->may_overwrite_input) return;
    const std::size_t num_pairs =
        joining.op->communicates ? joining.inputs.size() : 1;  // a bucket has an output an input
    for (std::size_t i = 0; i < num_pairs; ++i) {
      const ValueId input = joining.inputs[i];
      const Role role = graph_.values()[root(index(input))].role;
      const bool is_ours = role == Role::kIntermediate || role == Role::kAccumulator;
      const bool read_twice = std::count(joining.inputs.begin(), joining.inputs.end(), input) > 1;
      // So far needed_until_ counts the readers before this one, of which some may have only started.
      if (is_ours && !read_twice && last_read_[index(input)] == n && needed_until_[index(input)] < n &&
          graph_.value(input).desc.num_bytes() == graph_.value(joining.outputs[i]).desc.num_bytes())
        join(input, joining.outputs[i]);
    }
  }

  void join(ValueId input, ValueId output) { parent_[index(output)] = root(index(input)); }

  const Graph& graph_;
  std::vector<int> ends_;
  std::vector<std::size_t> parent_;
  std::vector<int> last_read_;
  std::vector<int> needed_until_;
};

// Lowest offsets without overlap in time and space. Returns the end of the highest block.
std::size_t packed(std::vector<Block*> blocks, std::size_t num_times) {
  std::stable_sort(blocks.begin(), blocks.end(),
                   [](const Block* a, const Block* b) { return a->num_bytes > b->num_bytes; });
  Occupied occupied(num_times);
  std::size_t end = 0;
  for (Block* block : blocks) {
    const auto first = static_cast<std::size_t>(block->first), last = static_cast<std::size_t>(block->last);
    block->offset = occupied.lowest_free(first, last, block->num_bytes);
    occupied.take(first, last, block->offset, block->num_bytes);
    end = std::max(end, block->offset + block->num_bytes);
  }
  return end;
}

ProgramMemory plan_program(const Graph& graph, const Lifetimes& lives, const ArenaPlan& arena) {
  ProgramMemory memory;
  memory.num_bytes = lives.num_bytes;
  for (std::size_t v = 0; v < graph.values().size(); ++v) {
    const std::size_t root = lives.storages[v];
    const Value& owner = graph.values()[root];
    memory.value_offsets.push_back(owner.role != Role::kIntermediate
                                       ? arena.persistents.at(owner.name).offset
                                       : arena.persistent_bytes + lives.values[root].offset);
  }
  for (const Block& scratch : lives.scratch)
    memory.scratch_offsets.push_back(arena.persistent_bytes + scratch.offset);
  return memory;
}

// Members of buckets first, side by side in the bucket's order; then everything else.
void plan_persistents(const PersistentTable& table, std::span<const Graph* const> programs,
                      std::span<const Lifetimes> lives, ArenaPlan& arena) {
  const auto place = [&](const PersistentValue& value) {
    const bool is_input = value.role == Role::kInput;
    const std::size_t num_bytes = aligned(value.desc.num_bytes());
    const ArenaPlan::Place at{arena.persistent_bytes, is_input ? num_bytes : 0};
    if (!arena.persistents.emplace(value.name, at).second) return;
    const std::size_t total = num_bytes * (is_input ? kInputSlots : 1);
    arena.persistent_bytes += total;
    arena.bytes_by_role[value.role] += total;
  };
  for (std::size_t p = 0; p < programs.size(); ++p)
    for (const Node& node : programs[p]->nodes())
      if (node.op->side_by_side && node.inputs.size() > 1)
        for (const ValueId id : node.inputs) {
          const std::size_t root = lives[p].storages[static_cast<std::size_t>(id.index)];
          place(table.at(programs[p]->values()[root].name));
        }
  for (const PersistentValue& value : table.values()) place(value);
}

std::size_t scratch_bytes(const Graph& graph, const Node& node, const Mesh& mesh, const RankDevice& device) {
  if (kernel_of(*node.op, device.kind).scratch_bytes == nullptr) return 0;
  KernelNode view{graph.args_of(node)};
  view.ranges = axis_ranges(graph, node, mesh, std::vector<int>(mesh.axes.size(), 0));
  view.num_threads = device.num_threads;
  return kernel_of(*node.op, device.kind).scratch_bytes(view);
}

}  // namespace

// Nodes that look alike want the same.
std::vector<std::size_t> scratch_of_nodes(const Graph& graph, const LookAlikes& alike, const Mesh& mesh,
                                          const RankDevice& device) {
  std::vector<std::size_t> by_look, by_node;
  for (const NodeId first : alike.first_nodes())
    by_look.push_back(scratch_bytes(graph, graph.node(first), mesh, device));
  for (std::size_t n = 0; n < graph.nodes().size(); ++n)
    by_node.push_back(by_look[static_cast<std::size_t>(alike.look_of(NodeId{static_cast<int>(n)}))]);
  return by_node;
}

Lifetimes lifetimes_of(const Graph& graph, std::span<const std::size_t> scratch) {
  const Storages storages(graph);
  const std::size_t num_values = graph.values().size(), num_nodes = graph.nodes().size();
  Lifetimes lives;
  lives.values.resize(num_values);
  lives.scratch.resize(num_nodes);
  for (std::size_t v = 0; v < num_values; ++v) {
    const Value& value = graph.values()[v];
    const std::size_t root = storages.root(v);
    lives.storages.push_back(root);
    Block& block = lives.values[root];
    if (root == v) {
      const bool is_temporary = value.role == Role::kIntermediate;
      block = {.num_bytes = is_temporary ? aligned(value.desc.num_bytes()) : 0,
               .first = std::max(0, value.producer.index),
               .last = std::max(0, value.producer.index)};
    }
    block.last = std::max({block.last, storages.needed_until(v), value.producer.index});
  }
  for (std::size_t n = 0; n < num_nodes; ++n) {
    const auto time = static_cast<int>(n);
    lives.scratch[n] = {.num_bytes = aligned(scratch[n]), .first = time, .last = storages.end(time)};
  }
  return lives;
}

void pack(Lifetimes& lives) {
  std::vector<Block*> temporary;
  for (std::vector<Block>* blocks : {&lives.values, &lives.scratch})
    for (Block& block : *blocks)
      if (block.num_bytes > 0) temporary.push_back(&block);
  lives.num_bytes = packed(std::move(temporary), lives.scratch.size() + 1);
}

Lifetimes packed_lifetimes_of(const Graph& graph, const Mesh& mesh, const RankDevice& device) {
  Lifetimes lives = lifetimes_of(graph, scratch_of_nodes(graph, LookAlikes(graph), mesh, device));
  pack(lives);
  return lives;
}

ArenaPlan plan_memory(const PersistentTable& table, std::span<const Graph* const> programs,
                      std::span<const Lifetimes> lives) {
  ArenaPlan arena;
  plan_persistents(table, programs, lives, arena);
  for (std::size_t p = 0; p < programs.size(); ++p) {
    arena.programs.push_back(plan_program(*programs[p], lives[p], arena));
    arena.temporary_bytes = std::max(arena.temporary_bytes, arena.programs.back().num_bytes);
  }
  return arena;
}

}  // namespace takt
