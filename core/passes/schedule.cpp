// schedule: windows of collectives grow where memory allows; nothing else moves.
//
// Time is the number of a node in the blocking order, and slot t is the gap before node t. A collective that stood at
// time t starts in a slot up to t and is done in a slot behind t. The schedule keeps who lives in whose storage, so that
// a window only makes blocks live longer: outputs and scratch from its start, inputs and scratch until its done. What
// that takes is known exactly from a profile of the bytes alive at each time. In a slot dones come first, then starts:
// an output lives from the node behind its start, an input until the node before the done, so that blocks are packed in
// the times of the blocking order, and nodes are moved once, when it is known that they fit.
#include "core/passes/schedule.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "core/ops/builders.h"
#include "core/passes/accumulate_early.h"
#include "core/passes/byte_profile.h"

namespace takt {
namespace {

struct Window {
  int node = 0;  // the collective, and the time at which it stood
  int stream = 0;
  int earliest = 0;         // slot in which its inputs are there
  int latest = 0;           // slot of whoever first reads its outputs or overwrites its inputs
  int start = 0, done = 0;  // slots
};

struct Windows {
  std::vector<Window> windows;  // in the blocking order
  Lifetimes lives;              // with them
};

// Who reads and writes what when, in the blocking order.
class Limits {
 public:
  Limits(const Graph& graph, const Lifetimes& lives)
      : graph_(graph), lives_(lives), users_(graph), writers_(graph.values().size()) {
    for (std::size_t n = 0; n < graph.nodes().size(); ++n)
      for (const ValueId id : graph.nodes()[n].outputs) writers_[storage(id)].push_back(static_cast<int>(n));
  }

  std::size_t storage(ValueId id) const { return lives_.storages[static_cast<std::size_t>(id.index)]; }
  bool overwrites(const Node& node, ValueId input) const {
    return std::any_of(node.outputs.begin(), node.outputs.end(),
                       [&](ValueId output) { return storage(output) == storage(input); });
  }

  int latest_done(const Node& node, int n) const {
    auto latest = static_cast<int>(graph_.nodes().size());
    for (const ValueId id : node.outputs)
      if (!users_.of(id).empty()) latest = std::min(latest, users_.of(id).front().index);
    for (const ValueId id : node.inputs) {
      const std::vector<int>& writers = writers_[storage(id)];
      const auto next = std::upper_bound(writers.begin(), writers.end(), n);
      if (next != writers.end()) latest = std::min(latest, *next);
    }
    return latest;
  }

  // A collective that waits for another one stays where it is, so that the other is not waited for early.
  int earliest_start(const Node& node, int n) const {
    int earliest = 0;
    const auto follow = [&](NodeId before) {
      if (before.index < 0) return;
      earliest = std::max(earliest, graph_.node(before).op->communicates ? n : before.index + 1);
    };
    for (const ValueId id : node.inputs) {
      follow(graph_.value(id).producer);
      for (const NodeId reader : users_.of(id))
        if (reader.index < n && overwrites(node, id)) follow(reader);
    }
    return earliest;
  }

 private:
  const Graph& graph_;
  const Lifetimes& lives_;
  Users users_;
  std::vector<std::vector<int>> writers_;  // by storage: the nodes that write to it, in order
};

// Chooses the windows: reductions first, from the last one on, then starts from the first on.
class WindowPlanner {
 public:
  WindowPlanner(const Graph& graph, const Mesh& mesh, Lifetimes lives, std::int64_t allowed_bytes)
      : graph_(graph),
        lives_(std::move(lives)),
        limits_(graph, lives_),
        profile_(static_cast<int>(graph.nodes().size()) + 1),
        allowed_bytes_(allowed_bytes) {
    for (const std::vector<Block>* blocks : {&lives_.values, &lives_.scratch})
      for (const Block& block : *blocks) use(block.first, block.last, block.num_bytes);
    for (int n = 0; n < static_cast<int>(graph.nodes().size()); ++n) {
      const Node& node = graph.nodes()[static_cast<std::size_t>(n)];
      if (!node.op->communicates) continue;
      windows_.push_back({n, stream_of(mesh, node.mesh_axes), limits_.earliest_start(node, n),
                          limits_.latest_done(node, n), n, n + 1});
    }
  }

  // As long as memory allows.
  Windows longest() && {
    std::map<int, int> next_done;  // by stream
    for (auto window = windows_.rbegin(); window != windows_.rend(); ++window) {
      const auto [next, is_last] = next_done.try_emplace(window->stream, window->latest);
      put_off_done(*window, std::min(window->latest, next->second));
      next->second = window->done;
    }
    std::map<int, int> last_start;  // by stream
    for (Window& window : windows_) {
      bring_forward_start(window, std::max(window.earliest, last_start[window.stream]));
      last_start[window.stream] = window.start;
    }
    return {std::move(windows_), std::move(lives_)};
  }
  // Done at once.
  Windows shortest() && { return {std::move(windows_), std::move(lives_)}; }

 private:
  void use(int first, int last, std::size_t num_bytes) {
    if (num_bytes > 0) profile_.add(first, last, static_cast<std::int64_t>(num_bytes));
  }
  void give_back(int first, int last, std::size_t num_bytes) {
    if (num_bytes > 0) profile_.add(first, last, -static_cast<std::int64_t>(num_bytes));
  }

  // What must live on where the done is put off, with the time until which it lives now.
  std::vector<Block*> kept_by(const Window& window) {
    const Node& node = graph_.node({window.node});
    std::vector<Block*> blocks;
    for (const ValueId id : node.inputs) {
      Block* block = &lives_.values[limits_.storage(id)];
      const bool is_new = std::find(blocks.begin(), blocks.end(), block) == blocks.end();
      if (block->num_bytes > 0 && is_new && !limits_.overwrites(node, id)) blocks.push_back(block);
    }
    Block* scratch = &lives_.scratch[static_cast<std::size_t>(window.node)];
    if (scratch->num_bytes > 0) blocks.push_back(scratch);
    return blocks;
  }

  void put_off_done(Window& window, int latest) {
    const std::vector<Block*> blocks = kept_by(window);
    const auto keep = [&](int done) {
      for (const Block* block : blocks) use(block->last + 1, done - 1, block->num_bytes);
    };
    const auto fits = [&](int done) {
      keep(done);
      const bool yes = profile_.most(window.node + 1, done - 1) <= allowed_bytes_;
      for (const Block* block : blocks) give_back(block->last + 1, done - 1, block->num_bytes);
      return yes;
    };
    window.done = blocks.empty() || fits(latest) ? latest : last_that(window.done, latest, fits);
    keep(window.done);
    for (Block* block : blocks) block->last = std::max(block->last, window.done - 1);
    for (const ValueId id : graph_.node({window.node}).outputs) {  // if nobody reads them
      Block& block = lives_.values[limits_.storage(id)];
      block.last = std::max(block.last, window.done - 1);
    }
  }

  void bring_forward_start(Window& window, int earliest) {
    const Node& node = graph_.node({window.node});
    std::vector<Block*> blocks = {&lives_.scratch[static_cast<std::size_t>(window.node)]};
    for (const ValueId id : node.outputs)
      if (limits_.storage(id) == static_cast<std::size_t>(id.index))
        blocks.push_back(&lives_.values[limits_.storage(id)]);
    std::size_t num_bytes = 0;
    for (const Block* block : blocks) num_bytes += block->num_bytes;
    const auto fits = [&](int ahead) {
      const int start = window.node - ahead;
      return profile_.most(start, window.node - 1) + static_cast<std::int64_t>(num_bytes) <= allowed_bytes_;
    };
    const int most_ahead = window.node - earliest;
    const int ahead = num_bytes == 0 || fits(most_ahead) ? most_ahead : last_that(0, most_ahead, fits);
    window.start = window.node - ahead;
    use(window.start, window.node - 1, num_bytes);
    for (Block* block : blocks) block->first = std::min(block->first, window.start);
  }

  // The largest number from `good` to `end` for which all up to it hold; `good` does.
  template <class Holds>
  static int last_that(int good, int end, const Holds& holds) {
    while (good < end) {
      const int middle = good + (end - good + 1) / 2;
      if (holds(middle))
        good = middle;
      else
        end = middle - 1;
    }
    return good;
  }

  const Graph& graph_;
  Lifetimes lives_;
  Limits limits_;
  ByteProfile profile_;
  std::int64_t allowed_bytes_;
  std::vector<Window> windows_;
};

// Turns collectives into pairs. In a slot dones come first, then starts, both in blocking order.
class Writer {
 public:
  Writer(Graph& graph, Windows& plan) : graph_(graph), windows_(plan.windows), lives_(plan.lives) {}

  void run() && {
    append_dones();
    const std::vector<int> order = this->order();
    graph_.reorder(order);
    std::vector<Block> scratch;
    for (const int n : order) scratch.push_back(lives_.scratch[static_cast<std::size_t>(n)]);
    lives_.scratch = std::move(scratch);
  }

 private:
  // Behind everything, for now; they need no storage of their own.
  void append_dones() {
    std::vector<ValueId> now(graph_.values().size());
    for (const Window& window : windows_) {
      Node& collective = graph_.node(NodeId{window.node});
      collective.stream = window.stream;
      const std::vector<ValueId> inputs = collective.outputs;
      graph_.append_placed(
          {.op = &done_op(), .name = collective.name, .inputs = inputs, .tag = collective.tag});
      for (const ValueId id : inputs) {
        now[static_cast<std::size_t>(id.index)] = graph_.add_output(Value(graph_.value(id)));
        lives_.storages.push_back(lives_.storages[static_cast<std::size_t>(id.index)]);
      }
    }
    graph_.redirect(now);
    lives_.values.resize(graph_.values().size());
    lives_.scratch.resize(graph_.nodes().size());
  }

  std::vector<int> order() const {
    const auto num_dones = static_cast<int>(windows_.size());
    const int num_nodes = static_cast<int>(graph_.nodes().size()) - num_dones;
    std::vector<int> starts(windows_.size()), order;
    std::iota(starts.begin(), starts.end(), 0);
    std::vector<int> dones = starts;
    const auto window = [&](int w) -> const Window& { return windows_[static_cast<std::size_t>(w)]; };
    std::stable_sort(starts.begin(), starts.end(),
                     [&](int a, int b) { return window(a).start < window(b).start; });
    std::stable_sort(dones.begin(), dones.end(),
                     [&](int a, int b) { return window(a).done < window(b).done; });
    auto start = starts.begin(), done = dones.begin();
    for (int slot = 0; slot <= num_nodes; ++slot) {
      for (; done != dones.end() && window(*done).done == slot; ++done) order.push_back(num_nodes + *done);
      for (; start != starts.end() && window(*start).start == slot; ++start)
        order.push_back(window(*start).node);
      if (slot < num_nodes && !std::as_const(graph_).node(NodeId{slot}).op->communicates)
        order.push_back(slot);
    }
    return order;
  }

  Graph& graph_;
  const std::vector<Window>& windows_;
  Lifetimes& lives_;
};

// The most bytes that are alive at once.
std::int64_t peak_of(const Lifetimes& lives) {
  std::vector<std::int64_t> change(lives.scratch.size() + 2);
  for (const std::vector<Block>* blocks : {&lives.values, &lives.scratch})
    for (const Block& block : *blocks) {
      change[static_cast<std::size_t>(block.first)] += static_cast<std::int64_t>(block.num_bytes);
      change[static_cast<std::size_t>(block.last) + 1] -= static_cast<std::int64_t>(block.num_bytes);
    }
  std::int64_t alive = 0, most = 0;
  for (const std::int64_t bytes : change) most = std::max(most, alive += bytes);
  return most;
}

std::vector<int> inverse_of(const std::vector<int>& order) {
  std::vector<int> inverse(order.size());
  for (std::size_t i = 0; i < order.size(); ++i)
    inverse[static_cast<std::size_t>(order[i])] = static_cast<int>(i);
  return inverse;
}

// Packing leaves gaps, so that a program may need more than is alive at once. Both are held to what the blocking order
// takes, or other programs take anyway: where a schedule leaves larger gaps, it is made again with less alive.
class Scheduler {
 public:
  Scheduler(Graph graph, const Mesh& mesh, const RankDevice& device, const WindowMemory& memory)
      : graph_(std::move(graph)),
        mesh_(mesh),
        scratch_(scratch_of_nodes(graph_, LookAlikes(graph_), mesh, device)),
        memory_(memory) {}

  Scheduled run() && {
    Lifetimes blocking = lifetimes_of(graph_, scratch_);
    const std::vector<int> early = accumulating_early(graph_);
    const bool moves = !std::is_sorted(early.begin(), early.end());
    if (!moves && !communicates()) {
      pack(blocking);
      return {std::move(graph_), std::move(blocking)};
    }
    if (moves) reorder(early);
    Windows plan;
    if (!fits(plan, moves ? lifetimes_of(graph_, scratch_) : blocking, blocking)) {
      if (moves) reorder(inverse_of(early));
      plan = WindowPlanner(graph_, mesh_, std::move(blocking), 0).shortest();
      pack(plan.lives);
    }
    Writer(graph_, plan).run();
    return {std::move(graph_), std::move(plan.lives)};
  }

 private:
  bool communicates() const {
    return std::any_of(graph_.nodes().begin(), graph_.nodes().end(),
                       [](const Node& node) { return node.op->communicates; });
  }

  void reorder(const std::vector<int>& order) {
    graph_.reorder(order);
    std::vector<std::size_t> scratch;
    for (const int n : order) scratch.push_back(scratch_[static_cast<std::size_t>(n)]);
    scratch_ = std::move(scratch);
  }

  // Makes windows for a graph in which values live as in `lives`. Do they fit beside what the blocking order takes?
  bool fits(Windows& plan, const Lifetimes& lives, Lifetimes& blocking) const {
    constexpr int kTries = 3;
    std::int64_t alive = allowed(peak_of(blocking)), most = alive;
    for (int i = 0; i < kTries; ++i) {
      plan = WindowPlanner(graph_, mesh_, lives, alive).longest();
      pack(plan.lives);
      const auto needed = static_cast<std::int64_t>(plan.lives.num_bytes);
      if (i == 0 && needed > most) {
        pack(blocking);
        most = allowed(static_cast<std::int64_t>(blocking.num_bytes));
      }
      if (needed <= most) return true;
      alive -= needed - most;
    }
    return false;
  }

  // Where the blocking order takes `num_bytes`.
  std::int64_t allowed(std::int64_t num_bytes) const {
    return std::max(num_bytes + static_cast<std::int64_t>(memory_.extra_bytes),
                    static_cast<std::int64_t>(memory_.taken_anyway));
  }

  Graph graph_;
  const Mesh& mesh_;
  std::vector<std::size_t> scratch_;  // by node
  const WindowMemory& memory_;
};

}  // namespace

int stream_of(const Mesh& mesh, const MeshAxisNames& mesh_axes) {
  int stream = 0;
  for (const Axis& name : mesh_axes) {
    const int axis = mesh.find(name);
    TAKT_ASSERT(axis >= 0, "schedule: mesh ", to_string(mesh), " has no axis '", name, "'");
    stream |= 1 << axis;
  }
  return stream;
}

Scheduled scheduled(Graph graph, const Mesh& mesh, const RankDevice& device, const WindowMemory& memory) {
  return Scheduler(std::move(graph), mesh, device, memory).run();
}

}  // namespace takt
