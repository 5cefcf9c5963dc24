// Experts that are spread over ranks: any mesh with an axis `expert` equals one rank, what crosses it is what expert
// parallelism moves, and what a mesh with it writes any other reads.
#include <filesystem>

#include "core/base/rng.h"
#include "core/state/checkpoint.h"
#include "core/state/files.h"
#include "core/state/safetensors.h"
#include "tests/mesh_training.h"

namespace takt {
namespace {

struct Ranks {
  int replica = 1, data = 1, expert = 1, tensor = 1;
};

// As mesh.layout makes it.
Mesh mesh_of(const Ranks& ranks) {
  return {{{"replica", ranks.replica, 1},
           {"data", ranks.data, 1},
           {"expert", ranks.expert, 1},
           {"tensor", ranks.tensor}}};
}

class ExpertMesh : public testing::TestWithParam<Case> {
 protected:
  ExpertMesh()
      : subject_(GetParam().make()), step_(GetParam().step), alone_(train(*subject_, step_, mesh_of({}))) {}
  void expect_as_alone(const LayoutOptions& layout, const Ranks& ranks) const {
    const Mesh mesh = mesh_of(ranks);
    SCOPED_TRACE(concat(to_string(mesh), " shard=", shard_names()[static_cast<std::size_t>(layout.shard)],
                        layout.sequence ? " sequence" : ""));
    StepConfig step = step_;
    step.layout = layout;
    expect_close(train(*subject_, step, mesh), alone_, {});
  }
  std::unique_ptr<Subject> subject_;
  StepConfig step_;
  Training alone_;
};

TEST_P(ExpertMesh, EqualsOneRank) {
  for (const Ranks& ranks : {Ranks{.expert = 2}, Ranks{.expert = 4}, Ranks{.data = 2, .expert = 2},
                             Ranks{.expert = 2, .tensor = 2}, Ranks{.data = 2, .expert = 2, .tensor = 2},
                             Ranks{.data = 2, .expert = 4}, Ranks{.expert = 4, .tensor = 2}})
    expect_as_alone({}, ranks);
}

// Storage is cut inside the share of experts, not across it.
TEST_P(ExpertMesh, SharedStateEqualsOneRank) {
  for (const Shard shard : {Shard::kOptimizer, Shard::kGradients, Shard::kParameters})
    for (const Ranks& ranks : {Ranks{.data = 2, .expert = 2}, Ranks{.data = 2, .expert = 2, .tensor = 2},
                               Ranks{.replica = 2, .data = 2, .expert = 2}})
      expect_as_alone({.shard = shard}, ranks);
}

TEST_P(ExpertMesh, SharedTokensEqualOneRank) {
  for (const Ranks& ranks : {Ranks{.expert = 2, .tensor = 2}, Ranks{.data = 2, .expert = 2, .tensor = 2}}) {
    expect_as_alone({.sequence = true}, ranks);
    expect_as_alone({.shard = Shard::kParameters, .sequence = true}, ranks);
  }
}

INSTANTIATE_TEST_SUITE_P(Mixtures, ExpertMesh,
                         testing::Values(gpt_case("Mixtral", mixtral(), step_of("adamw")),
                                         gpt_case("HalfIsDropped", mixtral(0.5), step_of("adamw")),
                                         gpt_case("NothingIsDropped", mixtral(0), step_of("sgd"))),
                         [](const auto& test) { return test.param.name; });

// ---- What crosses the axis ----

std::size_t calls_over_expert(const StepPlan& plan, std::string_view program, std::string_view op) {
  std::size_t num_calls = 0;
  for (const auto& traffic : cost_of(plan.programs[plan.index_of(program)]).traffic)
    if (traffic.op == op && traffic.mesh_axes == "expert") num_calls += traffic.num_calls;
  return num_calls;
}

// Lepikhin et al. 2020: tokens go to their experts and back, in a layer's forward pass and in its backward pass.
TEST(ExpertParallelism, CrossesTheAxisTwiceALayerAndDirection) {
  const LanguageTask task(mixtral());
  for (const Precision precision : {Precision::kF32, Precision::kBF16})
    for (const Ranks& ranks :
         {Ranks{.expert = 2}, Ranks{.expert = 4}, Ranks{.data = 2, .expert = 2, .tensor = 2}})
      for (const bool sequence : {false, true}) {
        StepConfig step = step_of("adamw");
        step.precision = precision;
        step.layout.sequence = sequence;
        const StepPlan plan = compile_step(task, step, mesh_of(ranks), 1);
        SCOPED_TRACE(to_string(plan.mesh));
        const auto layers = static_cast<std::size_t>(task.config().layers);
        EXPECT_EQ(calls_over_expert(plan, kMicroBatch, "all_to_all"), 4 * layers);
        EXPECT_EQ(calls_over_expert(plan, kEvaluate, "all_to_all"), 2 * layers);
        for (const std::string_view op : {"all_gather", "reduce_scatter", "all_reduce"})
          EXPECT_EQ(calls_over_expert(plan, kMicroBatch, op), 0u) << op;
      }
}

TEST(ExpertParallelism, ARankHasItsShareOfTheExperts) {
  const LanguageTask task(mixtral());
  const StepPlan plan = compile_step(task, step_of("adamw"), mesh_of({.data = 2, .expert = 4}), 1);
  int num_stacks = 0;
  for (const PersistentValue& value : plan.table.values()) {
    if (value.name.find("experts.*") == std::string::npos) continue;
    EXPECT_EQ(value.desc.extent("expert"), 1) << value.name;
    ++num_stacks;
  }
  EXPECT_EQ(num_stacks, 2 * 3 * 4) << "of two layers: three weights, their gradients and two moments";
}

// Data ranks share what is stored of the experts that they have. If they cut it along the experts, outside of the axis
// expert, gathering it would take all ranks.
TEST(ExpertParallelism, StorageIsGatheredOverDataAlone) {
  const LanguageTask task(mixtral());
  for (const Shard shard : {Shard::kOptimizer, Shard::kGradients, Shard::kParameters})
    for (const int tensor : {1, 2}) {
      StepConfig step = step_of("adamw");
      step.layout.shard = shard;
      const StepPlan plan = compile_step(task, step, mesh_of({.data = 2, .expert = 2, .tensor = tensor}), 1);
      for (const Program& program : plan.programs)
        EXPECT_EQ(calls_over_expert(plan, program.name, "all_gather"), 0u)
            << program.name << " shard=" << shard_names()[static_cast<std::size_t>(shard)];
    }
}

TEST(ExpertParallelism, ThatDoesNotDivideIsRefused) {
  GptConfig model = mixtral();
  model.experts = 6;
  const LanguageTask task(model);
  try {
    compile_step(task, step_of("adamw"), mesh_of({.expert = 4}), 1);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig);
    EXPECT_NE(std::string(error.what()).find("expert=6"), std::string::npos) << error.what();
  }
}

// ---- The routers' loss ----

// Reported is the cross entropy; gradients are of both. Without weights the routers' loss is nothing to anybody.
TEST(RouterLoss, MovesTheRoutersAndNotTheReportedLoss) {
  GptConfig plain = mixtral(), balanced = mixtral();
  plain.router_balance = plain.router_z = 0;
  balanced.router_balance = 5;
  const Training without = train(GptSubject(plain), step_of("sgd"), mesh_of({})),
                 with = train(GptSubject(balanced), step_of("sgd"), mesh_of({}));
  EXPECT_EQ(with.losses.front(), without.losses.front());
  EXPECT_NE(with.grad_norms.front(), without.grad_norms.front());
  EXPECT_NE(with.weights.at("model.layers.0.block_sparse_moe.gate.weight"),
            without.weights.at("model.layers.0.block_sparse_moe.gate.weight"));
}

TEST(RouterLoss, IsAFigureOfAnEvaluation) {
  const GptSubject subject(mixtral());
  const StepConfig step = step_of("adamw");
  std::vector<double> figures;
  for (const Ranks& ranks : {Ranks{}, Ranks{.data = 2, .expert = 2}}) {
    const StepPlan plan = compile_step(subject.task(), step, mesh_of(ranks), 1);
    run_ranks(plan.mesh.num_ranks(), [&](Communicator& world) {
      Trainer trainer(subject.task(), step, plan, world);
      trainer.initialize_weights();
      const Evaluation evaluation = trainer.evaluate(subject.valid());
      if (world.rank() > 0) return;
      ASSERT_EQ(evaluation.figures.front().first, "router_loss");
      figures.push_back(evaluation.figures.front().second);
    });
  }
  ASSERT_EQ(figures.size(), 2u);
  // Near even loads: balance times the picks of a token, and z times the square of log 4.
  EXPECT_NEAR(figures[0], 0.02 * 2 + 0.001 * std::log(4.0) * std::log(4.0), 0.01);
  EXPECT_NEAR(figures[1], figures[0], 1e-6);
}

// ---- Files ----

std::map<std::string, std::vector<float>> weights_of(Trainer& trainer, Communicator& world) {
  static std::map<std::string, std::vector<float>> weights;
  std::vector<TensorShard> shards = trainer.shards();
  std::erase_if(shards, [](const TensorShard& shard) { return shard.is_optimizer; });
  if (world.rank() == 0) weights = empty_weights(shards);
  world.barrier({"whole weights are allocated"});
  for (const TensorShard& shard : shards)
    if (shard.writes) collect(shard, weights.at(shard.name));
  world.barrier({"whole weights are there"});
  return weights;
}

// Written by one mesh under Mixtral's names, one tensor an expert, and read by others to the bit.
TEST(ExpertFiles, AreMixtralsAndAnyMeshReadsThem) {
  const LanguageTask task(mixtral());
  const StepConfig step = step_of("adamw");
  const std::filesystem::path root = testing::TempDir() + "/takt-experts-" + random_suffix();
  const std::filesystem::path file = root / "model.safetensors";
  std::map<std::string, std::vector<float>> written;
  const auto on = [&](const Ranks& ranks, const auto& body) {
    const StepPlan plan = compile_step(task, step, mesh_of(ranks), 1);
    run_ranks(plan.mesh.num_ranks(), [&](Communicator& world) {
      Trainer trainer(task, step, plan, world);
      body(trainer, world);
    });
  };
  on({.data = 2, .expert = 2}, [&](Trainer& trainer, Communicator& world) {
    trainer.initialize_weights();
    const auto all = weights_of(trainer, world);
    const SaveReport saved =
        save_checkpoint(root / "checkpoints", trainer.shards(), trainer.cursor(), 2, world);
    if (world.rank() > 0) return;
    written = all;
    export_model(saved.directory, trainer.exported(), file);
  });
  const SafetensorsFile exported(file);
  EXPECT_EQ(exported.tensors().size(), 3u + 2 * (4 + 2 + 1 + 3 * 4));
  const std::string moe = "model.layers.1.block_sparse_moe.";
  const StoredTensor* expert = exported.find(moe + "experts.3.w2.weight");
  ASSERT_NE(expert, nullptr);
  EXPECT_EQ(expert->shape, (std::vector<std::int64_t>{16, 32}));
  const std::vector<float>& stack = written.at(moe + "experts.*.w2.weight");
  const auto* elements = reinterpret_cast<const float*>(exported.data(*expert));
  EXPECT_TRUE(std::equal(elements, elements + 16 * 32, stack.begin() + 3 * 16 * 32));
  ASSERT_NE(exported.find(moe + "gate.weight"), nullptr);
  EXPECT_EQ(exported.find(moe + "gate.weight")->shape, (std::vector<std::int64_t>{4, 16}));
  for (const Ranks& ranks : {Ranks{}, Ranks{.expert = 4}, Ranks{.data = 2, .expert = 2, .tensor = 2}})
    on(ranks, [&](Trainer& trainer, Communicator& world) {
      import_model(file, trainer.shards(), trainer.exported());
      const auto read = weights_of(trainer, world);
      if (world.rank() > 0) return;
      EXPECT_EQ(read, written) << to_string(mesh_of(ranks));
    });
}

// ---- Anything ----

// Any model of experts on any mesh that it fits: drawn, trained and compared with one rank.
TEST(AnyExpertMesh, EqualsOneRank) {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const RandomStream random(seed, "experts");
    std::uint64_t next = 0;
    const auto one_of = [&](const auto& options) {
      return options[random.below(next++, std::size(options))];
    };
    const int expert = one_of(std::array{2, 4}), data = one_of(std::array{1, 2}),
              tensor = one_of(std::array{1, 2});
    GptConfig model =
        llama(one_of(std::array{1, 2, 4}), one_of(std::array{20, 32, 45}), one_of(std::array{false, true}));
    model.experts = expert * one_of(std::array{1, 2});
    model.experts_per_token = one_of(std::array{2, 2, 3});
    if (model.experts_per_token > model.experts) model.experts_per_token = 2;
    model.capacity_factor = one_of(std::array{0.0, 0.5, 1.0, 1.25});
    StepConfig step = step_of(one_of(std::array{"adamw", "sgd"}));
    const GptSubject subject(model);
    const Training alone = train(subject, step, mesh_of({}));
    step.layout = {
        .shard = one_of(std::array{Shard::kNone, Shard::kOptimizer, Shard::kGradients, Shard::kParameters}),
        .sequence = one_of(std::array{false, true})};
    const Mesh mesh = mesh_of({.data = data, .expert = expert, .tensor = data * expert == 8 ? 1 : tensor});
    SCOPED_TRACE(concat("seed ", seed, ": ", to_string(mesh), ", ", model.experts, " experts, ",
                        model.experts_per_token, " a token, capacity ", model.capacity_factor, ", shard ",
                        shard_names()[static_cast<std::size_t>(step.layout.shard)],
                        step.layout.sequence ? ", sequence" : ""));
    expect_close(train(subject, step, mesh), alone, {});
  }
}

}  // namespace
}  // namespace takt
