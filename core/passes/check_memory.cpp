// check_memory: a map of the arena, replayed. It shares nothing with the planner but the offsets.
#include "core/passes/check_memory.h"

#include <algorithm>
#include <iterator>
#include <map>

#include "core/graph/started.h"

namespace takt {
namespace {

// Who wrote each byte last: numbers of writers, over ranges.
class Bytes {
 public:
  void write(std::size_t first, std::size_t num_bytes, int writer) {
    if (num_bytes == 0) return;
    cut_at(first);
    cut_at(first + num_bytes);
    const auto from = ranges_.lower_bound(first), to = ranges_.lower_bound(first + num_bytes);
    ranges_.emplace_hint(ranges_.erase(from, to), first, Range{first + num_bytes, writer});
  }
  bool are_of(std::size_t first, std::size_t num_bytes, int writer) const {
    const std::size_t last = first + num_bytes;
    auto range = ranges_.upper_bound(first);
    if (range != ranges_.begin()) --range;
    for (; first < last; ++range) {
      if (range == ranges_.end() || range->first > first) return false;
      if (range->second.end <= first || range->second.writer != writer) return false;
      first = range->second.end;
    }
    return true;
  }

 private:
  struct Range {
    std::size_t end = 0;
    int writer = 0;
  };
  // Ranges end and begin at `at`, if they cover it.
  void cut_at(std::size_t at) {
    const auto next = ranges_.lower_bound(at);
    if (next == ranges_.begin()) return;
    Range& range = std::prev(next)->second;
    if (range.end <= at) return;
    ranges_.insert(next, {at, range});
    range.end = at;
  }
  std::map<std::size_t, Range> ranges_;  // by first byte
};

class MemoryReplay {
 public:
  MemoryReplay(std::string_view program, const Graph& graph, const ProgramMemory& memory,
               std::span<const std::size_t> scratch)
      : program_(program), graph_(graph), memory_(memory), scratch_(scratch) {}

  void run() {
    for (std::size_t v = 0; v < graph_.values().size(); ++v)
      if (graph_.values()[v].role != Role::kIntermediate) write({static_cast<int>(v)});
    for (std::size_t n = 0; n < graph_.nodes().size(); ++n) {
      const Node& node = graph_.nodes()[n];
      if (node.op->awaits) finish_started(node);
      for (const ValueId id : node.inputs) read(id, node);
      bytes_.write(memory_.scratch_offsets[n], scratch_[n], scratch_of(n));
      for (const ValueId id : node.outputs) write(id);
    }
    for (const ValueId id : graph_.outputs()) read(id, {.name = "the end"});
  }

 private:
  static int scratch_of(std::size_t node) { return -1 - static_cast<int>(node); }
  std::size_t offset(ValueId id) const { return memory_.value_offsets[static_cast<std::size_t>(id.index)]; }
  void write(ValueId id) { bytes_.write(offset(id), graph_.value(id).desc.num_bytes(), id.index); }
  bool holds(ValueId id) const {
    return bytes_.are_of(offset(id), graph_.value(id).desc.num_bytes(), id.index);
  }

  void read(ValueId id, const Node& node) const {
    TAKT_ASSERT(holds(id), "program ", program_, ": '", graph_.value(id).name,
                "' has been overwritten in memory when '", node.name, "' (",
                node.op ? node.op->name : "output", ") reads it");
  }

  // What the collective reads is still there, unless it has overwritten that itself; and so is its scratch.
  void finish_started(const Node& done) const {
    const NodeId start = graph_.value(done.inputs.at(0)).producer;
    const Node& node = graph_.node(start);
    const auto n = static_cast<std::size_t>(start.index);
    const auto overwritten = [&](ValueId input) {
      return std::any_of(node.outputs.begin(), node.outputs.end(),
                         [&](ValueId output) { return offset(output) == offset(input); });
    };
    for (const ValueId id : node.inputs)
      if (!overwritten(id)) read(id, node);
    TAKT_ASSERT(bytes_.are_of(memory_.scratch_offsets[n], scratch_[n], scratch_of(n)), "program ", program_,
                ": the scratch of '", node.name, "' has been overwritten before the collective is done");
  }

  std::string_view program_;
  const Graph& graph_;
  const ProgramMemory& memory_;
  std::span<const std::size_t> scratch_;  // bytes by node
  Bytes bytes_;
};

}  // namespace

void check_memory(std::string_view program, const Graph& graph, const ProgramMemory& memory,
                  std::span<const std::size_t> scratch) {
  MemoryReplay(program, graph, memory, scratch).run();
}

}  // namespace takt
