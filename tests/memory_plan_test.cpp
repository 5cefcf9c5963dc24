// What a memory plan must keep: nothing that is still needed is overwritten. Checked by liveness computed
// here, without the planner's data structures, on random graphs and on real training steps.
#include "core/passes/memory_plan.h"

#include <gtest/gtest.h>

#include <numeric>

#include "core/passes/shard_ranges.h"
#include "tests/gpt_step.h"
#include "tests/random_graph.h"

namespace takt {
namespace {

std::size_t aligned(std::size_t num_bytes) {
  return (num_bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
}

// A value or a node's scratch: where it lies and when. Node n reads and writes at time n.
struct Stay {
  std::string name;
  std::size_t offset = 0, num_bytes = 0;
  int first = 0, last = 0;  // inclusive
  int value = -1;           // -1: scratch
  bool is_temporary = true;

  bool meets(const Stay& other) const { return first <= other.last && other.first <= last; }
  bool overlaps(const Stay& other) const {
    return offset < other.offset + other.num_bytes && other.offset < offset + num_bytes;
  }
};

// One program of a plan, with the life of everything in it.
class Lives {
 public:
  Lives(const StepPlan& plan, std::size_t program)
      : graph_(plan.programs[program].graph),
        memory_(plan.arena.programs[program]),
        num_nodes_(static_cast<int>(graph_.nodes().size())),
        successor_(graph_.values().size(), -1),
        end_(graph_.nodes().size()) {
    for (int n = 0; n < num_nodes_; ++n) end_[static_cast<std::size_t>(n)] = end_of(n);
    for (int n = 0; n < num_nodes_; ++n) find_successors(n);
    for (int v = 0; v < static_cast<int>(graph_.values().size()); ++v)
      add_value(v, plan.arena.persistent_bytes);
    const std::vector<std::size_t> scratch =
        scratch_of_nodes(graph_, LookAlikes(graph_), plan.mesh, plan.device);
    for (int n = 0; n < num_nodes_; ++n) {
      const Node& node = graph_.nodes()[static_cast<std::size_t>(n)];
      const std::size_t num_bytes = scratch[static_cast<std::size_t>(n)];
      if (num_bytes > 0)
        stays_.push_back({"scratch of " + node.name, memory_.scratch_offsets[static_cast<std::size_t>(n)],
                          num_bytes, n, end_[static_cast<std::size_t>(n)]});
    }
  }

  const std::vector<Stay>& stays() const { return stays_; }

  // Does `next` take over the storage of `before`, in the node that reads the one and writes the other?
  bool hands_over(const Stay& before, const Stay& next) const {
    return before.value >= 0 && next.value >= 0 && before.offset == next.offset &&
           before.last == next.first && successor_[static_cast<std::size_t>(before.value)] == next.value;
  }

  // The largest sum of bytes alive at one time; storage that is handed over counts once.
  std::size_t largest_live_bytes() const {
    std::size_t largest = 0;
    for (int time = 0; time <= num_nodes_; ++time) {
      std::size_t sum = 0;
      for (const Stay& stay : stays_) {
        const bool is_handed_over = stay.last == time && stay.value >= 0 &&
                                    std::any_of(stays_.begin(), stays_.end(),
                                                [&](const Stay& next) { return hands_over(stay, next); });
        if (stay.is_temporary && stay.first <= time && time <= stay.last && !is_handed_over)
          sum += aligned(stay.num_bytes);
      }
      largest = std::max(largest, sum);
    }
    return largest;
  }

 private:
  // A collective that has only started is over at its done.
  int end_of(int n) const {
    const Node& node = graph_.nodes()[static_cast<std::size_t>(n)];
    for (int m = n + 1; node.stream > 0 && m < num_nodes_; ++m)
      if (graph_.nodes()[static_cast<std::size_t>(m)].op->name == "done" &&
          graph_.nodes()[static_cast<std::size_t>(m)].inputs == node.outputs)
        return m;
    return n;
  }

  // In-place ops overwrite an input by definition; others may if nobody reads that input later, and never
  // what the next step needs.
  void find_successors(int n) {
    const Node& node = graph_.nodes()[static_cast<std::size_t>(n)];
    for (const auto& [output, input] : node.op->in_place) may_follow(node, input, output);
    for (std::size_t i = 0; node.op->name == "done" && i < node.inputs.size(); ++i)
      may_follow(node, static_cast<int>(i), static_cast<int>(i));
    if (!node.op->may_overwrite_input) return;
    const std::size_t num_pairs = node.op->communicates ? node.inputs.size() : 1;
    for (std::size_t i = 0; i < num_pairs; ++i)
      if (!lies_in_parameter_or_state(node.inputs[i]))
        may_follow(node, static_cast<int>(i), static_cast<int>(i));
  }

  bool lies_in_parameter_or_state(ValueId id) const {
    for (std::size_t v = 0; v < graph_.values().size(); ++v)
      if ((graph_.values()[v].role == Role::kParameter || graph_.values()[v].role == Role::kState) &&
          memory_.value_offsets[v] == memory_.value_offsets[static_cast<std::size_t>(id.index)])
        return true;
    return false;
  }

  void may_follow(const Node& node, int input, int output) {
    const ValueId before = node.inputs[static_cast<std::size_t>(input)];
    if (std::count(node.inputs.begin(), node.inputs.end(), before) > 1)
      return;  // it is read beside what is written
    const ValueId next = node.outputs[static_cast<std::size_t>(output)];
    if (memory_.value_offsets[static_cast<std::size_t>(before.index)] ==
        memory_.value_offsets[static_cast<std::size_t>(next.index)])
      successor_[static_cast<std::size_t>(before.index)] = next.index;
  }

  void add_value(int v, std::size_t persistent_bytes) {
    const Value& value = graph_.values()[static_cast<std::size_t>(v)];
    Stay stay{.name = concat("%", v, " ", value.name),
              .offset = memory_.value_offsets[static_cast<std::size_t>(v)],
              .num_bytes = value.desc.num_bytes(),
              .first = std::max(0, value.producer.index),
              .last = last_needed(v),
              .value = v};
    stay.is_temporary = stay.offset >= persistent_bytes;
    stays_.push_back(stay);
  }

  // Outputs and what persists are needed after the last node, unless a successor has taken their place.
  int last_needed(int v) const {
    const Value& value = graph_.values()[static_cast<std::size_t>(v)];
    int last = std::max(0, value.producer.index);
    const int successor = successor_[static_cast<std::size_t>(v)];
    for (int n = 0; n < num_nodes_; ++n) {
      const Node& node = graph_.nodes()[static_cast<std::size_t>(n)];
      if (std::count(node.inputs.begin(), node.inputs.end(), ValueId{v}) == 0) continue;
      const bool hands_over = std::count(node.outputs.begin(), node.outputs.end(), ValueId{successor}) > 0;
      last = std::max(last, hands_over ? n : end_[static_cast<std::size_t>(n)]);
    }
    const bool is_output = std::count(graph_.outputs().begin(), graph_.outputs().end(), ValueId{v}) > 0;
    const bool persists = is_persistent(value.role) && successor_[static_cast<std::size_t>(v)] < 0;
    const bool in_persistent_place = value.role == Role::kIntermediate && follows_persistent(v);
    return is_output || persists || in_persistent_place ? num_nodes_ : last;
  }

  // The newest contents of a parameter, state or accumulator.
  bool follows_persistent(int v) const {
    if (successor_[static_cast<std::size_t>(v)] >= 0) return false;
    for (std::size_t before = 0; before < successor_.size();) {
      if (successor_[before] != v) {
        ++before;
        continue;
      }
      const Value& value = graph_.values()[before];
      if (is_persistent(value.role)) return true;
      v = static_cast<int>(before);
      before = 0;
    }
    return false;
  }

  const Graph& graph_;
  const ProgramMemory& memory_;
  int num_nodes_;
  std::vector<int> successor_;  // by value: the one that takes its storage, or -1
  std::vector<int> end_;        // by node: when it touches nothing any more
  std::vector<Stay> stays_;
};

void expect_no_overlap(const Lives& lives, const std::string& what) {
  for (std::size_t i = 0; i < lives.stays().size(); ++i)
    for (std::size_t j = 0; j < i; ++j) {
      const Stay &a = lives.stays()[i], &b = lives.stays()[j];
      if (!a.meets(b) || !a.overlaps(b) || lives.hands_over(a, b) || lives.hands_over(b, a)) continue;
      ADD_FAILURE() << what << ": " << a.name << " [" << a.first << ", " << a.last << "] and " << b.name
                    << " [" << b.first << ", " << b.last << "] are both needed and share bytes from "
                    << std::max(a.offset, b.offset);
      return;
    }
}

void expect_in_the_arena(const Lives& lives, const ArenaPlan& arena, const std::string& what) {
  for (const Stay& stay : lives.stays()) {
    EXPECT_EQ(stay.offset % kArenaAlignment, 0u) << what << ": " << stay.name;
    EXPECT_LE(stay.offset + stay.num_bytes, arena.num_bytes()) << what << ": " << stay.name;
  }
}

// all_reduce hands a bucket to the communicator as one span.
void expect_adjacent_buckets(const StepPlan& plan, std::size_t program, const std::string& what) {
  const Graph& graph = plan.programs[program].graph;
  const std::vector<std::size_t>& offsets = plan.arena.programs[program].value_offsets;
  const auto check = [&](const std::vector<ValueId>& members) {
    for (std::size_t i = 1; i < members.size(); ++i)
      EXPECT_EQ(offsets[static_cast<std::size_t>(members[i].index)],
                offsets[static_cast<std::size_t>(members[i - 1].index)] +
                    aligned(graph.value(members[i - 1]).desc.num_bytes()))
          << what << ": " << graph.value(members[i]).name;
  };
  for (const Node& node : graph.nodes())
    if (node.op->name == "all_reduce") {
      check(node.inputs);
      check(node.outputs);
    }
}

void expect_one_place_for_what_persists(const StepPlan& plan, const std::string& what) {
  for (std::size_t p = 0; p < plan.programs.size(); ++p) {
    const std::vector<Value>& values = plan.programs[p].graph.values();
    for (std::size_t v = 0; v < values.size(); ++v) {
      if (!is_persistent(values[v].role)) continue;
      const std::size_t offset = plan.arena.programs[p].value_offsets[v];
      EXPECT_EQ(offset, plan.arena.persistents.at(values[v].name).offset)
          << what << ": " << values[v].name << " in " << plan.programs[p].name;
      EXPECT_LE(offset + values[v].desc.num_bytes(), plan.arena.persistent_bytes) << what;
    }
  }
}

// Ranges differ from rank to rank; the plan is one for all.
void expect_scratch_for_every_rank(const StepPlan& plan, const std::string& what) {
  for (const Program& program : plan.programs) {
    const std::vector<std::size_t> scratch =
        scratch_of_nodes(program.graph, LookAlikes(program.graph), plan.mesh, plan.device);
    for (std::size_t n = 0; n < scratch.size(); ++n) {
      const Node& node = program.graph.nodes()[n];
      if (node.op->cpu.scratch_bytes == nullptr) continue;
      const std::size_t planned = scratch[n];
      KernelNode view{program.graph.args_of(node)};
      view.num_threads = plan.device.num_threads;
      for (int rank = 0; rank < plan.mesh.num_ranks(); ++rank) {
        view.ranges = axis_ranges(program.graph, node, plan.mesh, plan.mesh.coordinates(rank));
        EXPECT_LE(node.op->cpu.scratch_bytes(view), planned)
            << what << ": " << node.name << ", rank " << rank;
      }
    }
  }
}

void expect_thrifty(const StepPlan& plan, const std::string& what) {
  std::size_t largest = 0;
  for (std::size_t p = 0; p < plan.programs.size(); ++p)
    largest = std::max(largest, Lives(plan, p).largest_live_bytes());
  EXPECT_LE(static_cast<double>(plan.arena.temporary_bytes), 1.3 * static_cast<double>(largest)) << what;
  EXPECT_GE(plan.arena.temporary_bytes, largest) << what << ": what is alive at once does not fit";
}

void expect_sound(const StepPlan& plan, const std::string& what) {
  for (std::size_t p = 0; p < plan.programs.size(); ++p) {
    const std::string name = concat(what, " ", to_string(plan.mesh), ", ", plan.programs[p].name);
    const Lives lives(plan, p);
    expect_no_overlap(lives, name);
    expect_in_the_arena(lives, plan.arena, name);
    expect_adjacent_buckets(plan, p, name);
  }
  expect_one_place_for_what_persists(plan, what);
  expect_scratch_for_every_rank(plan, what);
  expect_thrifty(plan, concat(what, " ", to_string(plan.mesh)));
}

GptStep gpt_job(const std::string& family) {
  GptStep job;
  job.model.family = family;
  job.model.layers = 2;
  job.model.embed = 32;
  job.model.heads = 4;
  job.model.kv_heads = family == "llama" ? 2 : 4;
  job.model.mlp = 90;
  job.model.vocab = 61;
  job.model.seq = 32;
  job.model.tied = family == "gpt2";
  job.model = complete_gpt(job.model);
  job.step.global_batch = 8;
  return job;
}

Mesh mesh_of(int data, int tensor) {
  return {{{"data", data}, {"tensor", tensor}}};
}

TEST(MemoryPlan, IsSoundForRandomGraphs) {
  for (std::uint64_t seed = 100; seed < 120; ++seed)
    for (const Mesh& mesh : {mesh_of(1, 1), mesh_of(2, 1), mesh_of(1, 2), mesh_of(4, 4)}) {
      SCOPED_TRACE(concat("seed ", seed));
      for (const std::optional<std::size_t> extra_bytes : {std::optional<std::size_t>(), {4096}}) {
        const StepPlan plan = random_graph::compile(random_graph::random_step(seed), mesh, 1024,
                                                    {.extra_bytes = extra_bytes, .joins_update = true});
        expect_sound(plan, "random graph");
        ASSERT_FALSE(HasFailure()) << to_string(plan.programs[0].graph) << to_string(plan.programs[1].graph);
      }
    }
}

TEST(MemoryPlan, IsSoundForTrainingSteps) {
  for (const char* family : {"llama", "gpt2"})
    for (const Mesh& mesh : {mesh_of(1, 1), mesh_of(2, 1), mesh_of(1, 2), mesh_of(2, 4)})
      for (const int num_threads : {1, 3}) {
        expect_sound(compile_step(gpt_job(family), mesh, num_threads), family);
        ASSERT_FALSE(HasFailure());
      }
}

// Small buckets: several of them, of several members each.
TEST(MemoryPlan, IsSoundForManyBuckets) {
  GptStep job = gpt_job("gpt2");
  job.step.bucket_bytes = 9000;
  const StepPlan plan = compile_step(job, mesh_of(4, 1), 1);
  expect_sound(plan, "gpt2");
  int num_buckets = 0;
  for (const Node& node : plan.programs[plan.index_of(kUpdate)].graph.nodes())
    num_buckets += node.op->name == "all_reduce" && node.inputs.size() > 1;
  EXPECT_GT(num_buckets, 2);
}

TEST(MemoryPlan, IsSoundForJoinedSteps) {
  for (const char* family : {"llama", "gpt2"})
    for (const Shard shard : {Shard::kNone, Shard::kOptimizer})
      for (const std::size_t extra_bytes : {std::size_t{0}, std::size_t{1} << 30}) {
        GptStep job = gpt_job(family);
        job.step.bucket_bytes = 9000;
        job.step.layout.shard = shard;
        job.step.overlap = {true, extra_bytes};
        expect_sound(compile_step(job, mesh_of(2, 2), 1), family);
        ASSERT_FALSE(HasFailure()) << (shard == Shard::kNone) << " " << extra_bytes;
      }
}

TEST(MemoryPlan, SharesStorageBetweenTheProgramsOfAStep) {
  const StepPlan plan = compile_step(gpt_job("llama"), mesh_of(1, 1), 1);
  std::size_t sum = 0;
  for (const ProgramMemory& program : plan.arena.programs) sum += program.num_bytes;
  EXPECT_LT(plan.arena.temporary_bytes, sum);
}

}  // namespace
}  // namespace takt
