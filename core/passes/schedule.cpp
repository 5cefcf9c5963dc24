// schedule: windows of collectives grow where memory allows; nothing else moves.
//
// Time is the number of a node in the blocking order, and slot t is the gap before node t. A collective that stood at
// time t starts in a slot up to t and is done in a slot behind t. The schedule keeps who lives in whose storage, so that
// a window only makes blocks live longer: outputs and scratch from its start, inputs and scratch until its done. What
// that takes is known exactly from a profile of the bytes alive at each time.
#include "core/passes/schedule.h"

#include <algorithm>
#include <map>

#include "core/graph/rewriter.h"
#include "core/ops/builders.h"
#include "core/passes/accumulate_early.h"
#include "core/passes/byte_profile.h"

namespace takt {
namespace {

// A graph made from another one.
struct Reordered {
  Graph graph;
  std::vector<int> origin;  // by node: its number before; -1: a done
};

Reordered in_order(const Graph& graph, std::vector<int> order) {
  Rewriter rewriter(graph);
  for (const int n : order) rewriter.copy(graph.node({n}));
  return {std::move(rewriter).finish(), std::move(order)};
}

struct Window {
  int node = 0;  // the collective, and the time at which it stood
  int stream = 0;
  int earliest = 0;         // slot in which its inputs are there
  int latest = 0;           // slot of whoever first reads its outputs or overwrites its inputs
  int start = 0, done = 0;  // slots
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
  std::vector<Window> longest() && {
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
    return std::move(windows_);
  }
  // Done at once.
  std::vector<Window> shortest() && { return std::move(windows_); }

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

// The graph with pairs. In a slot dones come first, then starts, both in blocking order.
class Writer {
 public:
  Writer(const Graph& graph, const std::vector<Window>& windows)
      : graph_(graph), rewriter_(graph), windows_(windows), starts_(windows.size()), dones_(windows.size()) {
    std::size_t num_values = graph.values().size();
    for (std::size_t w = 0; w < windows.size(); ++w) {
      starts_[w] = dones_[w] = &windows[w];
      num_values += graph.node({windows[w].node}).outputs.size();
    }
    rewriter_.graph().reserve(num_values, graph.nodes().size() + windows.size());
    std::stable_sort(starts_.begin(), starts_.end(),
                     [](const Window* a, const Window* b) { return a->start < b->start; });
    std::stable_sort(dones_.begin(), dones_.end(),
                     [](const Window* a, const Window* b) { return a->done < b->done; });
  }

  Reordered run() && {
    std::size_t next_start = 0, next_done = 0;
    const auto num_nodes = static_cast<int>(graph_.nodes().size());
    for (int slot = 0; slot <= num_nodes; ++slot) {
      while (next_done < dones_.size() && dones_[next_done]->done == slot) finish(*dones_[next_done++]);
      while (next_start < starts_.size() && starts_[next_start]->start == slot) start(*starts_[next_start++]);
      if (slot < num_nodes && !graph_.node({slot}).op->communicates) {
        rewriter_.copy(graph_.node({slot}));
        origin_.push_back(slot);
      }
    }
    return {std::move(rewriter_).finish(), std::move(origin_)};
  }

 private:
  void start(const Window& window) {
    Node node = graph_.node({window.node});
    node.stream = window.stream;
    rewriter_.copy_as(std::move(node), graph_.node({window.node}).outputs);
    origin_.push_back(window.node);
  }

  void finish(const Window& window) {
    const Node& node = graph_.node({window.node});
    rewriter_.copy_as({.op = &done_op(), .name = node.name, .inputs = node.outputs, .tag = node.tag},
                      node.outputs);
    origin_.push_back(-1);
  }

  const Graph& graph_;
  Rewriter rewriter_;
  std::vector<int> origin_;
  const std::vector<Window>& windows_;
  std::vector<const Window*> starts_, dones_;
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

// Packing leaves gaps, so that a program may need more than is alive at once. Both are held to what the blocking order
// takes: where a schedule leaves larger gaps, it is made again with less alive.
class Scheduler {
 public:
  Scheduler(Graph graph, const Mesh& mesh, const RankDevice& device, std::size_t extra_bytes)
      : graph_(std::move(graph)),
        mesh_(mesh),
        scratch_(scratch_of_nodes(graph_, LookAlikes(graph_), mesh, device)),
        extra_bytes_(static_cast<std::int64_t>(extra_bytes)) {}

  Scheduled run() && {
    Lifetimes blocking = lifetimes_of(graph_, scratch_);
    std::vector<int> order = accumulating_early(graph_);
    if (std::is_sorted(order.begin(), order.end())) {
      if (communicates()) return windows_in(graph_, scratch_, blocking, blocking);
      pack(blocking);
      return {std::move(graph_), std::move(blocking)};
    }
    const Reordered early = in_order(graph_, std::move(order));
    const std::vector<std::size_t> scratch = moved(scratch_, early.origin);
    return windows_in(early.graph, scratch, lifetimes_of(early.graph, scratch), blocking);
  }

 private:
  bool communicates() const {
    return std::any_of(graph_.nodes().begin(), graph_.nodes().end(),
                       [](const Node& node) { return node.op->communicates; });
  }

  // `graph` with windows, or the blocking order where that does not fit.
  Scheduled windows_in(const Graph& graph, const std::vector<std::size_t>& scratch, const Lifetimes& lives,
                       Lifetimes blocking) const {
    constexpr int kTries = 3;
    std::int64_t alive = peak_of(blocking) + extra_bytes_, allowed = alive;
    for (int i = 0; i < kTries; ++i) {
      Scheduled result = written(graph, scratch, WindowPlanner(graph, mesh_, lives, alive).longest());
      const auto needed = static_cast<std::int64_t>(result.lives.num_bytes);
      if (i == 0 && needed > allowed) {
        pack(blocking);
        allowed = static_cast<std::int64_t>(blocking.num_bytes) + extra_bytes_;
      }
      if (needed <= allowed) return result;
      alive -= needed - allowed;
    }
    return written(graph_, scratch_, WindowPlanner(graph_, mesh_, blocking, 0).shortest());
  }

  static Scheduled written(const Graph& graph, const std::vector<std::size_t>& scratch,
                           const std::vector<Window>& windows) {
    Reordered result = Writer(graph, windows).run();
    Lifetimes lives = lifetimes_of(result.graph, moved(scratch, result.origin));
    pack(lives);
    return {std::move(result.graph), std::move(lives)};
  }

  // Scratch of nodes that were numbered otherwise; a done, which is new, has none.
  static std::vector<std::size_t> moved(const std::vector<std::size_t>& scratch,
                                        const std::vector<int>& origin) {
    std::vector<std::size_t> now;
    for (const int n : origin) now.push_back(n < 0 ? 0 : scratch[static_cast<std::size_t>(n)]);
    return now;
  }

  Graph graph_;
  const Mesh& mesh_;
  std::vector<std::size_t> scratch_;  // by node
  std::int64_t extra_bytes_;
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

Scheduled scheduled(Graph graph, const Mesh& mesh, const RankDevice& device, std::size_t extra_bytes) {
  return Scheduler(std::move(graph), mesh, device, extra_bytes).run();
}

}  // namespace takt
