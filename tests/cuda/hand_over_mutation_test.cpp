// Every hand-over between streams is needed: a training that lacks one of its waits is another training, or is diagnosed.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/cuda/cuda_test.h"
#include "tests/cuda/small_training.h"
#include "tests/emulated/control.h"

namespace takt {
namespace {

// A stream's waits on one rank in the order in which the executor makes them, in words.
class Waits {
 public:
  Waits(const StepPlan& plan, std::int64_t num_steps, int num_evaluations) : plan_(plan) {
    for (const Action& action : plan.start) run(action, "start");
    for (std::int64_t step = 1; step <= num_steps; ++step)
      for (const Action& action : plan.step) run(action, concat("step ", step));
    for (int i = 1; i <= num_evaluations; ++i)
      for (const Action& action : plan.evaluate) run(action, concat("evaluation ", i));
  }

  const std::vector<std::string>& names() const { return names_; }

 private:
  using Slot = std::pair<std::string, int>;

  void run(const Action& action, const std::string& when) {
    if (action.kind != Action::Kind::kRun) return;
    const Program& program = plan_.programs[static_cast<std::size_t>(action.program)];
    const int slot = action.micro_batch % kInputSlots;
    const std::string what = concat(when, ", ", program.name, " ", action.micro_batch);
    write(program, kHyper, slot, what);
    for (const PersistentValue& value : plan_.table.values())
      if (value.role == Role::kInput && value.name != kHyper) write(program, value.name, slot, what);
    if (recorded_.insert({program.name, slot}).second) record(program, slot);
    for (const Value& value : program.graph.values()) {
      if (value.role != Role::kInput) continue;
      names_.push_back(concat(what, " reads ", value.name));
      used_.insert({value.name, slot});
    }
  }

  void write(const Program& program, std::string_view input, int slot, const std::string& what) {
    if (!program.graph.find_outside(input)) return;
    if (used_.contains({std::string(input), slot})) names_.push_back(concat(what, " gets ", input));
  }

  void record(const Program& program, int slot) {
    for (const Node& node : program.graph.nodes()) {
      const std::string where = concat(program.name, " of slot ", slot);
      if (node.op->awaits) names_.push_back(concat(where, ": ", node.name));
      if (!node.op->awaits && node.stream != 0) names_.push_back(concat(where, ": ", node.name, " starts"));
    }
  }

  const StepPlan& plan_;
  std::vector<std::string> names_;
  std::set<Slot> recorded_, used_;
};

struct Order {
  emulated::Schedule schedule;
  std::uint64_t seed;
};
constexpr Order kOrders[] = {{emulated::Schedule::kLazy, 1},
                             {emulated::Schedule::kPriority, 1},
                             {emulated::Schedule::kPriority, 2},
                             {emulated::Schedule::kPriority, 3},
                             {emulated::Schedule::kPriority, 4}};

void set_order(const Order& order) {
  emulated::reset();
  emulated::Settings settings = emulated::settings();
  settings.schedule = order.schedule;
  settings.seed = order.seed;
  settings.hold_ms = 60'000;  // or a slow machine would run what nobody has waited for
  emulated::configure(settings);
}

// A missing wait may go unseen in one order of the streams.
bool is_noticed(const SmallRun& run, const Trained& wanted, std::uint64_t wait) {
  for (const Order& order : kOrders) {
    set_order(order);
    emulated::skip_wait(wait, 0);
    try {
      if (!(run() == wanted) || !emulated::diagnoses().empty()) return true;
    } catch (const Error&) {
      return true;
    }
  }
  return false;
}

struct Mutated {
  SmallModel model;
};

void PrintTo(const Mutated& mutated, std::ostream* out) {
  *out << mutated.model.name;
}

class HandOverMutation : public CudaTest, public testing::WithParamInterface<Mutated> {
 protected:
  void TearDown() override { emulated::reset(); }
};

// Micro-batches enough that each slot of an input is used again within a step.
SmallTraining training_of() {
  SmallTraining training{.step = {.global_batch = 8, .micro_batch = 1, .steps = 2, .grad_clip = 0.8},
                         .data = 2,
                         .num_steps = 2,
                         .nccl = {.call_timeout_s = 20}};
  training.step.shard = Shard::kOptimizer;
  training.step.bucket_bytes = 2000;
  training.step.overlap = {.joins_update = true, .extra_bytes = 1 << 20};
  training.step.optimizer.lr = 0.01;
  return training;
}

TEST_P(HandOverMutation, EveryWaitIsNeeded) {
  const SmallTraining training = training_of();
  const SmallRun run(GetParam().model, training, DeviceKind::kCuda);
  const std::vector<std::string> names = Waits(run.plan(), training.num_steps, 3).names();
  set_order(kOrders[0]);
  const Trained wanted = run();
  ASSERT_EQ(emulated::num_waits(0), names.size());
  for (const Order& order : kOrders) {
    set_order(order);
    ASSERT_EQ(run(), wanted);
    ASSERT_EQ(emulated::all_diagnoses(), "");
  }
  for (std::size_t wait = 0; wait < names.size(); ++wait)
    EXPECT_TRUE(is_noticed(run, wanted, wait)) << names[wait];
}

INSTANTIATE_TEST_SUITE_P(
    Models, HandOverMutation,
    testing::Values(
        Mutated{small_gpt("Llama",
                          {.layers = 1, .embed = 8, .heads = 2, .mlp = 12, .vocab = kVocab, .seq = kSeq})},
        Mutated{small_mlp({.layers = 1, .embed = 8, .mlp = 10})}),
    [](const auto& test) { return test.param.model.name; });

}  // namespace
}  // namespace takt
