// Every hand-over between streams is needed: a training that lacks one of its waits is another training, or is diagnosed.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/cuda/cuda_test.h"
#include "tests/cuda/small_training.h"
#include "tests/emulated/control.h"

namespace takt {
namespace {

struct Wait {
  std::string name;
  std::string implied_by;  // why nothing changes without it; empty: something does
};

// The waits of one rank's streams in the order in which the executor makes them, and which of them others imply.
class Waits {
 public:
  Waits(const StepPlan& plan, std::int64_t num_steps, int num_evaluations) : plan_(plan) {
    run(plan.start, "start", 0);
    int micro_batches = 0;  // so far: slots go on from step to step
    for (std::int64_t step = 1; step <= num_steps; ++step) {
      run(plan.step, concat("step ", step), micro_batches);
      micro_batches += 1 + plan.step.back().micro_batch;
    }
    for (int i = 1; i <= num_evaluations; ++i) run(plan.evaluate, concat("evaluation ", i), 0);
  }

  const std::vector<Wait>& all() const { return waits_; }

 private:
  using Slot = std::pair<std::string, int>;  // of an input

  // At the end the host reads results, and has waited for all that was queued.
  void run(const std::vector<Action>& actions, const std::string& when, int micro_batches_before) {
    for (const Action& action : actions)
      if (action.kind == Action::Kind::kRun)
        run(action, when, (micro_batches_before + action.micro_batch) % kInputSlots);
    host_waited_ = num_runs_;
  }

  void run(const Action& action, const std::string& when, int slot) {
    const Program& program = plan_.programs[static_cast<std::size_t>(action.program)];
    const std::string what = concat(when, ", ", program.name, " ", action.micro_batch);
    const std::vector<std::string> inputs = inputs_in_order(program);
    for (const std::string& input : inputs) write({input, slot}, what);
    if (recorded_.insert({program.name, slot}).second) record(program, slot);
    ++num_runs_;
    for (const Value& value : program.graph.values()) {
      if (value.role != Role::kInput) continue;
      waits_.push_back(
          {concat(what, " reads ", value.name),
           value.name == inputs.back() ? "" : "an input that is copied behind it is waited for"});
      used_[{value.name, slot}] = num_runs_;
    }
  }

  // As the trainer writes them.
  std::vector<std::string> inputs_in_order(const Program& program) const {
    std::vector<std::string> inputs;
    if (program.graph.find_outside(kHyper)) inputs.emplace_back(kHyper);
    for (const PersistentValue& value : plan_.table.values())
      if (value.role == Role::kInput && value.name != kHyper && program.graph.find_outside(value.name))
        inputs.push_back(value.name);
    return inputs;
  }

  void write(const Slot& slot, const std::string& what) {
    const auto used = used_.find(slot);
    if (used == used_.end()) return;
    waits_.push_back({concat(what, " gets ", slot.first),
                      used->second <= host_waited_   ? "the host has waited for its use"
                      : used->second <= copy_waited_ ? "an input before it has waited for the same use"
                                                     : ""});
    copy_waited_ = std::max(copy_waited_, used->second);
  }

  void record(const Program& program, int slot) {
    const Graph& graph = program.graph;
    std::map<int, std::size_t> started, done;  // by stream: behind the last call that started, that is done
    for (std::size_t n = 0; n < graph.nodes().size(); ++n) {
      const Node& node = graph.nodes()[n];
      const std::string where = concat(program.name, " of slot ", slot, ": ", node.name);
      if (node.op->awaits) {
        const auto start = static_cast<std::size_t>(graph.value(node.inputs[0]).producer.index);
        std::size_t& last = done[graph.nodes()[start].stream];
        waits_.push_back({where, last > start ? "a later call of its stream is done"
                                 : later_is_done_at(graph, n + 1, start)
                                     ? "a later call of its stream is done at once"
                                 : is_read(graph, node) ? ""
                                                        : "only the host reads it, which waits for all"});
        last = std::max(last, start + 1);
      } else if (node.stream != 0) {
        std::size_t& last = started[node.stream];
        waits_.push_back({concat(where, " starts"), operands_before(graph, node, last)
                                                        ? "its operands were there at the start before"
                                                        : ""});
        last = n + 1;
      }
    }
  }

  // Whether the nodes from `n` on are dones, up to one of a call that the stream of `start` makes behind it.
  static bool later_is_done_at(const Graph& graph, std::size_t n, std::size_t start) {
    for (; n < graph.nodes().size() && graph.nodes()[n].op->awaits; ++n) {
      const auto other = static_cast<std::size_t>(graph.value(graph.nodes()[n].inputs[0]).producer.index);
      if (other > start && graph.nodes()[other].stream == graph.nodes()[start].stream) return true;
    }
    return false;
  }

  static bool is_read(const Graph& graph, const Node& done) {
    return std::ranges::any_of(graph.nodes(), [&](const Node& node) {
      return std::ranges::any_of(node.inputs, [&](ValueId input) {
        return std::ranges::any_of(done.outputs, [&](ValueId output) { return output.index == input.index; });
      });
    });
  }

  // Whether all that `start` reads was computed by the nodes before `end`, or lies there from earlier programs.
  static bool operands_before(const Graph& graph, const Node& start, std::size_t end) {
    return std::ranges::all_of(start.inputs, [&](ValueId input) {
      return graph.value(input).producer.index < static_cast<int>(end);
    });
  }

  const StepPlan& plan_;
  std::vector<Wait> waits_;
  std::set<Slot> recorded_;
  std::map<Slot, int> used_;                              // by which run it was last
  int num_runs_ = 0, host_waited_ = 0, copy_waited_ = 0;  // up to which run
};

// Orders in which the streams may run, drawn from seeds. In each, the stream that lacks a wait runs as early as it can, and
// the one that it would have waited for as late (tests/emulated/control.h): what is needed is noticed in the first few.
constexpr std::uint64_t kNumOrders = 2;

void set_order(std::uint64_t seed) {
  emulated::reset();
  emulated::Settings settings = emulated::settings();
  settings.schedule = emulated::Schedule::kPriority;
  settings.seed = seed;
  settings.hold_ms = 60'000;  // or a slow machine would run what nobody has waited for
  emulated::configure(settings);
}

// Whether the training becomes another without these waits, in one of the orders.
bool is_noticed(const SmallRun& run, const Trained& wanted, std::span<const std::uint64_t> skipped) {
  for (std::uint64_t seed = 1; seed <= kNumOrders; ++seed) {
    set_order(seed);
    // On all ranks: one alone would start a call early, and wait in it for its peers until its operands are there.
    for (const std::uint64_t wait : skipped)
      for (int rank = 0; rank < run.num_ranks(); ++rank) emulated::skip_wait(wait, rank);
    try {
      if (!(run() == wanted) || !emulated::diagnoses().empty()) return true;
    } catch (const Error&) {
      return true;
    }
  }
  return false;
}

using Reasons = std::map<std::string, std::string>;  // by name of a wait: why nobody notices that it lacks

struct Subject {
  std::string name;
  SmallModel model;
  SmallTraining training;
  Reasons unnoticed;
};

void PrintTo(const Subject& subject, std::ostream* out) {
  *out << subject.name;
}

class HandOverMutation : public CudaTest, public testing::WithParamInterface<Subject> {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (emulated::settings().schedule != emulated::Schedule::kEager)
      GTEST_SKIP() << "it sets the orders itself";
  }
  void TearDown() override { emulated::reset(); }
};

TEST_P(HandOverMutation, WaitsAreNeededOrImplied) {
  const auto& [name, model, training, reasons] = GetParam();
  const SmallRun run(model, training, DeviceKind::kCuda);
  const std::vector<Wait> waits =
      Waits(run.plan(), training.num_steps, (kNumEvaluated + training.data - 1) / training.data).all();
  set_order(1);
  const Trained wanted = run();
  ASSERT_EQ(emulated::num_waits(0), waits.size());
  std::vector<std::uint64_t> implied, unnoticed;
  for (std::uint64_t wait = 0; wait < waits.size(); ++wait) {
    if (!waits[wait].implied_by.empty())
      implied.push_back(wait);
    else if (reasons.contains(waits[wait].name))
      unnoticed.push_back(wait);
    else
      EXPECT_TRUE(is_noticed(run, wanted, std::array{wait})) << waits[wait].name;
  }
  EXPECT_FALSE(is_noticed(run, wanted, {})) << "the order of the streams makes a difference";
  EXPECT_FALSE(is_noticed(run, wanted, implied)) << "one of the waits that others imply";
  EXPECT_EQ(unnoticed.size(), reasons.size()) << "the table names waits that are not there";
  EXPECT_FALSE(is_noticed(run, wanted, unnoticed)) << "one of the waits in the table";
}

constexpr const char* kOfZeros = "biases start as the zeros that the memory holds already";
constexpr const char* kCommutes = "it is scaled in place, before the sum or behind it: the same bits";
constexpr const char* kOnlyFinite = "the step asks only whether it is finite, as its parts are here";

// Micro-batches enough that each slot of an input is used again within a step.
SmallTraining sharded() {
  SmallTraining training{.step = {.global_batch = 8, .micro_batch = 1, .steps = 2, .grad_clip = 0.8},
                         .data = 2,
                         .num_steps = 2,
                         .nccl = {.call_timeout_s = 60}};
  training.step.layout.shard = Shard::kOptimizer;
  training.step.bucket_bytes = 2000;
  training.step.overlap = {.joins_update = true, .extra_bytes = 1 << 20};
  training.step.optimizer.lr = 0.01;
  return training;
}

// Calls in the middle of every layer.
SmallTraining split() {
  SmallTraining training = sharded();
  training.data = 1;
  training.tensor = 2;
  training.step.layout.shard = Shard::kNone;
  training.step.global_batch = 3;
  return training;
}

SmallModel gpt_of_one_layer(const std::string& family) {
  return small_gpt(
      family,
      {.family = family, .layers = 1, .embed = 8, .heads = 2, .mlp = 10, .vocab = kVocab, .seq = kSeq});
}

std::vector<Subject> subjects() {
  return {{"Mlp",
           small_mlp({.layers = 1, .embed = 8, .mlp = 10}),
           sharded(),
           {{"refresh of slot 0: input.bias", kOfZeros},
            {"refresh of slot 0: layers.0.norm.bias", kOfZeros},
            {"refresh of slot 0: layers.0.up.bias", kOfZeros},
            {"refresh of slot 0: layers.0.down.bias", kOfZeros},
            {"refresh of slot 0: norm.bias", kOfZeros},
            {"refresh of slot 0: output.bias", kOfZeros},
            {"last_micro_batch of slot 1: loss.of_step starts", kCommutes},
            {"last_micro_batch of slot 1: loss.of_step", kOnlyFinite}}},
          {"Gpt2",
           gpt_of_one_layer("gpt2"),
           sharded(),
           {{"refresh of slot 0: transformer.h.0.ln_1.bias", kOfZeros},
            {"refresh of slot 0: transformer.h.0.attn.c_attn.bias", kOfZeros},
            {"refresh of slot 0: transformer.h.0.attn.c_proj.bias", kOfZeros},
            {"refresh of slot 0: transformer.h.0.ln_2.bias", kOfZeros},
            {"refresh of slot 0: transformer.h.0.mlp.c_fc.bias", kOfZeros},
            {"refresh of slot 0: transformer.h.0.mlp.c_proj.bias", kOfZeros},
            {"refresh of slot 0: transformer.ln_f.bias", kOfZeros},
            {"last_micro_batch of slot 1: loss.of_step starts", kCommutes},
            {"last_micro_batch of slot 1: loss.of_step", kOnlyFinite}}},
          {"Llama", gpt_of_one_layer("llama"), split(), {}}};
}

INSTANTIATE_TEST_SUITE_P(Trainings, HandOverMutation, testing::ValuesIn(subjects()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace takt
