// memory_plan: liveness, sharing of storage between inputs and outputs, and packing.
#include "core/passes/memory_plan.h"

#include <algorithm>
#include <numeric>

#include "core/graph/look_alikes.h"
#include "core/passes/occupied.h"
#include "core/passes/shard_ranges.h"

namespace takt {

std::size_t aligned(std::size_t num_bytes) {
  return (num_bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
}

namespace {

// One piece of storage: alive from the node that first writes it to the last that reads it.
struct Block {
  std::size_t num_bytes = 0;
  int first = 0, last = 0;  // node numbers, inclusive
  std::size_t offset = 0;
};

// Joins values that live in the same storage.
class Storages {
 public:
  explicit Storages(const Graph& graph)
      : graph_(graph), parent_(graph.values().size()), last_use_(graph.values().size(), -1) {
    std::iota(parent_.begin(), parent_.end(), 0);
    const auto num_nodes = static_cast<int>(graph.nodes().size());
    for (int n = 0; n < num_nodes; ++n)
      for (const ValueId id : graph.nodes()[static_cast<std::size_t>(n)].inputs) use(id) = n;
    for (const ValueId id : graph.outputs()) use(id) = num_nodes;
    for (int n = 0; n < num_nodes; ++n) join_node(n);
  }

  // The value that stands for the storage; an outside value if there is one.
  std::size_t root(std::size_t value) const {
    while (parent_[value] != value) value = parent_[value];
    return value;
  }
  int last_use(std::size_t value) const { return last_use_[value]; }

 private:
  int& use(ValueId id) { return last_use_[static_cast<std::size_t>(id.index)]; }

  void join_node(int n) {
    const Node& node = graph_.nodes()[static_cast<std::size_t>(n)];
    for (const auto& [output, input] : node.op->in_place)
      join(node.inputs[static_cast<std::size_t>(input)], node.outputs[static_cast<std::size_t>(output)]);
    if (!node.op->may_overwrite_input) return;
    const std::size_t num_pairs =
        node.op->communicates ? node.inputs.size() : 1;  // a bucket has an output an input
    for (std::size_t i = 0; i < num_pairs; ++i) {
      const ValueId input = node.inputs[i];
      const Role role = graph_.values()[root(static_cast<std::size_t>(input.index))].role;
      const bool is_ours = role == Role::kIntermediate || role == Role::kAccumulator;
      const bool read_twice = std::count(node.inputs.begin(), node.inputs.end(), input) > 1;
      if (is_ours && !read_twice && use(input) == n &&
          graph_.value(input).desc.num_bytes() == graph_.value(node.outputs[i]).desc.num_bytes())
        join(input, node.outputs[i]);
    }
  }

  void join(ValueId input, ValueId output) {
    parent_[static_cast<std::size_t>(output.index)] = root(static_cast<std::size_t>(input.index));
  }

  const Graph& graph_;
  std::vector<std::size_t> parent_;
  std::vector<int> last_use_;
};

// Lowest offsets without overlap in time and space. Returns the end of the highest block.
std::size_t pack(std::vector<Block*> blocks, std::size_t num_times) {
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

// By node, aligned. Nodes that look alike want the same.
std::vector<std::size_t> scratch_of_nodes(const Graph& graph, const Mesh& mesh, int num_threads) {
  const LookAlikes alike(graph);
  std::vector<std::size_t> by_look, by_node;
  for (const NodeId first : alike.first_nodes())
    by_look.push_back(aligned(scratch_bytes(graph, graph.node(first), mesh, num_threads)));
  for (std::size_t n = 0; n < graph.nodes().size(); ++n)
    by_node.push_back(by_look[static_cast<std::size_t>(alike.look_of(NodeId{static_cast<int>(n)}))]);
  return by_node;
}

ProgramMemory plan_program(const Graph& graph, const Mesh& mesh, int num_threads, const ArenaPlan& arena) {
  const Storages storages(graph);
  const std::size_t num_values = graph.values().size(), num_nodes = graph.nodes().size();
  std::vector<Block> blocks(num_values + num_nodes);  // values, then scratch
  std::vector<Block*> temporary;
  for (std::size_t v = 0; v < num_values; ++v) {
    const Value& value = graph.values()[v];
    Block& block = blocks[storages.root(v)];
    if (storages.root(v) == v) {
      block = {aligned(value.desc.num_bytes()), std::max(0, value.producer.index),
               std::max(0, value.producer.index)};
      if (value.role == Role::kIntermediate) temporary.push_back(&block);
    }
    block.last = std::max({block.last, storages.last_use(v), value.producer.index});
  }
  const std::vector<std::size_t> scratch = scratch_of_nodes(graph, mesh, num_threads);
  for (std::size_t n = 0; n < num_nodes; ++n) {
    const auto time = static_cast<int>(n);
    blocks[num_values + n] = {scratch[n], time, time};
    if (blocks[num_values + n].num_bytes > 0) temporary.push_back(&blocks[num_values + n]);
  }
  ProgramMemory memory;
  memory.num_bytes = pack(std::move(temporary), num_nodes + 1);
  for (std::size_t v = 0; v < num_values; ++v) {
    const std::size_t root = storages.root(v);
    const Value& owner = graph.values()[root];
    memory.value_offsets.push_back(owner.role != Role::kIntermediate
                                       ? arena.persistents.at(owner.name).offset
                                       : arena.persistent_bytes + blocks[root].offset);
  }
  for (std::size_t n = 0; n < num_nodes; ++n)
    memory.scratch_offsets.push_back(arena.persistent_bytes + blocks[num_values + n].offset);
  return memory;
}

// Members of buckets first, side by side in the bucket's order; then everything else.
void plan_persistents(const PersistentTable& table, std::span<const Graph* const> programs,
                      ArenaPlan& arena) {
  const auto place = [&](const PersistentValue& value) {
    const bool is_input = value.role == Role::kInput;
    const std::size_t num_bytes = aligned(value.desc.num_bytes());
    const ArenaPlan::Place at{arena.persistent_bytes, is_input ? num_bytes : 0};
    if (!arena.persistents.emplace(value.name, at).second) return;
    const std::size_t total = num_bytes * (is_input ? kInputSlots : 1);
    arena.persistent_bytes += total;
    arena.bytes_by_role[value.role] += total;
  };
  for (const Graph* graph : programs)
    for (const Node& node : graph->nodes())
      if (node.op->communicates && node.inputs.size() > 1)
        for (const ValueId id : node.inputs) place(table.at(graph->value(id).name));
  for (const PersistentValue& value : table.values()) place(value);
}

}  // namespace

std::size_t scratch_bytes(const Graph& graph, const Node& node, const Mesh& mesh, int num_threads) {
  if (node.op->cpu.scratch_bytes == nullptr) return 0;
  KernelNode view{graph.args_of(node)};
  view.ranges = axis_ranges(graph, node, mesh, std::vector<int>(mesh.axes.size(), 0));
  view.num_threads = num_threads;
  return node.op->cpu.scratch_bytes(view);
}

ArenaPlan plan_memory(const PersistentTable& table, std::span<const Graph* const> programs, const Mesh& mesh,
                      int num_threads) {
  ArenaPlan arena;
  plan_persistents(table, programs, arena);
  for (const Graph* graph : programs) {
    arena.programs.push_back(plan_program(*graph, mesh, num_threads, arena));
    arena.temporary_bytes = std::max(arena.temporary_bytes, arena.programs.back().num_bytes);
  }
  return arena;
}

}  // namespace takt
