// Any mesh equals one rank: the same job, trained on ranks as threads, gives the same losses, gradient norms
// and weights however the ranks are arranged.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <map>

#include "collectives/local.h"
#include "core/base/rng.h"
#include "core/models/registry.h"
#include "launch/trainer.h"

namespace takt {
namespace {

constexpr std::int64_t kSteps = 20, kSeq = 12, kVocab = 61;

ModelConfig llama(std::int64_t kv_heads, std::int64_t mlp, bool tied) {
  ModelConfig model;
  model.layers = 2;
  model.embed = 16;
  model.heads = 4;
  model.kv_heads = kv_heads;
  model.mlp = mlp;
  model.vocab = kVocab;
  model.seq = kSeq;
  model.tied = tied;
  return model;
}

ModelConfig gpt2() {
  ModelConfig model = llama(4, 44, true);
  model.family = "gpt2";
  model.embed = 24;
  return model;
}

Job job_of(const ModelConfig& model, const std::string& optimizer) {
  Job job;
  job.model = find_model("gpt").complete(model);
  job.train = {.global_batch_tokens = 8,
               .global_batch_in_samples = true,
               .micro_batch = 1,
               .steps = kSteps,
               .grad_clip = 0.8};
  job.optimizer.kind = optimizer;
  job.optimizer.lr = optimizer == "sgd" ? 0.3 : 0.01;
  // Softmax does not see a bias on the keys: its gradient is rounding noise of 1e-9, another on every mesh,
  // from which AdamW would make whole steps.
  if (model.family == "gpt2") job.optimizer.eps = 1e-5;
  return job;
}

// Tokens that mostly follow from the one before, so that there is something to learn.
TokenDataset make_dataset(const std::string& name, std::int64_t num_tokens) {
  const std::string path =
      (std::filesystem::path(testing::TempDir()) / concat("mesh_equality.", getpid(), ".", name)).string();
  const RandomStream random(5, name);
  std::vector<std::int32_t> tokens = {1};
  while (static_cast<std::int64_t>(tokens.size()) < num_tokens) {
    const std::uint64_t i = 2 * tokens.size();
    tokens.push_back(random.below(i, 8) == 0 ? static_cast<std::int32_t>(random.below(i + 1, kVocab))
                                             : (tokens.back() * 7 + 3) % static_cast<std::int32_t>(kVocab));
  }
  write_llmc_bin(path, tokens, kVocab);
  const std::string paths[] = {path};
  TokenDataset dataset = TokenDataset::open(paths, kVocab);
  std::filesystem::remove(path);  // it stays mapped
  return dataset;
}

// Both are read by all ranks. Nine validation samples are no multiple of any batch.
struct Datasets {
  TokenDataset train = make_dataset("train", 60 * kSeq + 1);
  TokenDataset valid = make_dataset("valid", 9 * kSeq + 1);
};
const Datasets& datasets() {
  static const Datasets both;
  return both;
}

// What a run leaves behind: numbers of every step and whole weights.
struct Training {
  std::vector<double> losses, grad_norms;
  double valid_loss = 0, valid_loss_of_five = 0;
  std::map<std::string, std::vector<float>> weights;
};

// Copies the region that a shard holds into the whole tensor. Regions that are not `writes` are copies.
void collect(const TensorShard& shard, std::vector<float>& whole) {
  std::int64_t num_local = 1;
  for (const std::int64_t extent : shard.buffer_shape) num_local *= extent;
  for (std::int64_t i = 0; i < num_local; ++i) {
    std::int64_t rest = i, global = 0, stride = 1;
    bool exists = true;
    for (std::size_t d = shard.buffer_shape.size(); d-- > 0; rest /= shard.buffer_shape[d]) {
      const std::int64_t at = rest % shard.buffer_shape[d];
      exists = exists && at < shard.extent[d];
      global += stride * (shard.offset[d] + at);
      stride *= shard.global_shape[d];
    }
    const float* data = reinterpret_cast<const float*>(shard.memory.host);
    if (exists)
      whole[static_cast<std::size_t>(global)] = data[i];
    else
      EXPECT_EQ(data[i], 0.0f) << shard.name << ": padding, on whose zeros sums count";
  }
}

std::map<std::string, std::vector<float>> empty_weights(std::span<const TensorShard> shards) {
  std::map<std::string, std::vector<float>> weights;
  for (const TensorShard& shard : shards) {
    std::int64_t num_elements = 1;
    for (const std::int64_t extent : shard.global_shape) num_elements *= extent;
    weights[shard.name].assign(static_cast<std::size_t>(num_elements), std::nanf(""));
  }
  return weights;
}

Training train(const Job& job, int data, int tensor, int num_threads = 1) {
  const Mesh mesh{{{"data", data, 1}, {"tensor", tensor}}};
  const StepPlan plan = compile_step(job, mesh, num_threads);
  const DataOrder order(job.seed, datasets().train.num_samples(kSeq));
  Training run;
  run_ranks(mesh.num_ranks(), [&](Communicator& world) {
    Trainer trainer(job, plan, world);
    trainer.initialize_weights();
    Training mine;
    for (std::int64_t step = 0; step < kSteps; ++step) {
      const StepResult result = trainer.step(datasets().train, order);
      mine.losses.push_back(result.loss);
      mine.grad_norms.push_back(result.grad_norm);
    }
    mine.valid_loss = trainer.evaluate(datasets().valid, 0, nullptr).loss;
    mine.valid_loss_of_five = trainer.evaluate(datasets().valid, 5, nullptr).loss;
    const std::vector<TensorShard> shards = trainer.shards();
    if (world.rank() == 0) {
      run = std::move(mine);
      run.weights = empty_weights(shards);
    }
    world.barrier({"whole weights are allocated"});
    for (const TensorShard& shard : shards)  // ranks that write hold different elements
      if (shard.writes) collect(shard, run.weights.at(shard.name));
  });
  return run;
}

double relative(double found, double wanted) {
  return std::abs(found - wanted) / std::max(std::abs(wanted), 1e-12);
}

struct Tolerances {
  double loss = 1e-5, grad_norm = 1e-4, weight = 1e-4;
};

void expect_close(const Training& found, const Training& wanted, const Tolerances& tolerance) {
  for (std::size_t step = 0; step < wanted.losses.size(); ++step) {
    EXPECT_LE(relative(found.losses[step], wanted.losses[step]), tolerance.loss) << "loss of step " << step;
    EXPECT_LE(relative(found.grad_norms[step], wanted.grad_norms[step]), tolerance.grad_norm)
        << "gradient norm of step " << step;
  }
  EXPECT_LE(relative(found.valid_loss, wanted.valid_loss), tolerance.loss);
  EXPECT_LE(relative(found.valid_loss_of_five, wanted.valid_loss_of_five), tolerance.loss);
  ASSERT_EQ(found.weights.size(), wanted.weights.size());
  for (const auto& [name, weights] : wanted.weights) {
    const std::vector<float>& others = found.weights.at(name);
    ASSERT_EQ(others.size(), weights.size()) << name;
    double worst = 0;
    std::size_t where = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const double a = others[i], b = weights[i], error = std::abs(a - b) / std::max(1.0, std::abs(b));
      if (error <= worst || std::isnan(worst)) continue;
      worst = error;  // a NaN stays: an element that no rank has
      where = i;
    }
    EXPECT_TRUE(worst <= tolerance.weight) << name << "[" << where << "] is off by " << worst;
  }
}

void expect_same_bits(const Training& found, const Training& wanted) {
  EXPECT_EQ(found.losses, wanted.losses);
  EXPECT_EQ(found.grad_norms, wanted.grad_norms);
  EXPECT_EQ(found.valid_loss, wanted.valid_loss);
  EXPECT_EQ(found.weights, wanted.weights);
}

struct Case {
  std::string name;
  ModelConfig model;
  std::string optimizer;
};
void PrintTo(const Case& test, std::ostream* out) {
  *out << test.name;
}

std::vector<Case> cases() {
  return {{"LlamaGroupedQueries", llama(2, 32, false), "adamw"},
          {"LlamaOddSizes", llama(4, 44, false), "adamw"},
          {"LlamaTied", llama(1, 45, true), "adamw"},
          {"Gpt2Tied", gpt2(), "adamw"},
          {"LlamaSgd", llama(2, 44, false), "sgd"}};
}

class MeshEquality : public testing::TestWithParam<Case> {
 protected:
  MeshEquality() : job_(job_of(GetParam().model, GetParam().optimizer)), alone_(train(job_, 1, 1)) {}
  Job job_;
  Training alone_;
};

TEST_P(MeshEquality, OneRankLearnsAndIsClipped) {
  EXPECT_LT(alone_.losses.back(), 0.9 * alone_.losses.front());
  EXPECT_LT(alone_.valid_loss, 0.95 * alone_.losses.front());
  EXPECT_GT(alone_.grad_norms.front(), job_.train.grad_clip);
}

TEST_P(MeshEquality, AnyMeshEqualsOneRank) {
  for (const int data : {1, 2, 4})
    for (const int tensor : {1, 2, 4}) {
      if (data * tensor == 1) continue;
      SCOPED_TRACE(concat("data=", data, " tensor=", tensor));
      expect_close(train(job_, data, tensor), alone_, {});
    }
}

// ZeRO-1 changes where state lies, not what it is; also where tensor cuts the same axis, and where nothing divides.
TEST_P(MeshEquality, ShardedOptimizerStateEqualsOneRank) {
  Job job = job_;
  job.mesh.shard = "optimizer";
  for (const auto& [data, tensor] : {std::pair(2, 1), {4, 1}, {2, 2}, {4, 2}}) {
    SCOPED_TRACE(concat("data=", data, " tensor=", tensor));
    expect_close(train(job, data, tensor), alone_, {});
  }
}

// Matrix products in bf16 keep 8 bits of every factor; what they are rounded from and summed into is f32.
TEST_P(MeshEquality, MixedPrecisionStaysNearFullPrecision) {
  Job job = job_;
  job.train.precision = "bf16";
  const Tolerances one_step{.loss = 2e-2, .grad_norm = 0.15, .weight = 0.2};
  const Training alone = train(job, 1, 1);
  EXPECT_LE(relative(alone.losses.front(), alone_.losses.front()), 1e-3);
  EXPECT_LE(relative(alone.grad_norms.front(), alone_.grad_norms.front()), 1e-2);
  expect_close(alone, alone_, one_step);
  job.mesh.shard = "optimizer";
  expect_close(train(job, 2, 2), alone, one_step);
}

TEST_P(MeshEquality, SameLayoutGivesTheSameBits) {
  expect_same_bits(train(job_, 2, 2), train(job_, 2, 2));
}

TEST_P(MeshEquality, BucketSizeDoesNotChangeABit) {
  Job small = job_;
  small.mesh.bucket_bytes = 1000;
  expect_same_bits(train(small, 4, 2), train(job_, 4, 2));
}

TEST_P(MeshEquality, HoldsForAnyNumberOfThreads) {
  expect_close(train(job_, 1, 2, 2), train(job_, 1, 2), {1e-5, 1e-5, 1e-5});
}

// Source: Rajbhandari et al. 2020: with d data ranks a rank keeps 1/d of the optimizer state and of the masters.
TEST(ShardedOptimizer, KeepsItsShareOfTheState) {
  Job job = job_of(llama(4, 32, false), "adamw");
  const auto bytes = [&](int data, Role role) {
    return static_cast<double>(
        compile_step(job, {{{"data", data, 1}, {"tensor", 1}}}, 1).arena.bytes_by_role.at(role));
  };
  const double state = bytes(1, Role::kState), masters = bytes(1, Role::kParameter);
  const double constants = bytes(1, Role::kDerived);
  job.mesh.shard = "optimizer";
  EXPECT_EQ(bytes(1, Role::kDerived), constants) << "one data rank: no copies";
  for (const int data : {2, 4}) {
    EXPECT_NEAR(bytes(data, Role::kState) * data / state, 1.0, 0.05) << data;
    EXPECT_NEAR(bytes(data, Role::kParameter) * data / masters, 1.0, 0.05) << data;
    EXPECT_NEAR(bytes(data, Role::kDerived) / masters, 1.0, 0.05) << "the whole weights that the model reads";
  }
}

// Every gradient is scattered once, every weight gathered once, in the dtype that the model reads; nothing
// else but numbers goes over data.
TEST(ShardedOptimizer, ScattersAndGathersEachParameterOnce) {
  for (const std::string precision : {"fp32", "bf16"})
    for (const int tensor : {1, 2}) {
      Job job = job_of(llama(4, 32, false), "adamw");
      job.mesh.shard = "optimizer";
      job.train.precision = precision;
      // With fewer tokens than weights, gathering the tokens is cheaper, and is taken.
      job.train.micro_batch = 4;
      const StepPlan plan = compile_step(job, {{{"data", 2, 1}, {"tensor", tensor}}}, 1);
      std::size_t num_parameters = 0, num_scattered = 0, num_gathered = 0;
      for (const PersistentValue& value : plan.table.values())
        num_parameters += value.role == Role::kParameter;
      for (const std::string_view program : {kMicroBatch, kUpdate, kRefresh})
        for (const auto& traffic : cost_of(plan.programs[plan.index_of(program)]).traffic) {
          if (traffic.mesh_axes != "data") continue;
          num_scattered += traffic.op == "reduce_scatter" ? traffic.num_calls : 0;
          num_gathered += traffic.op == "all_gather" ? traffic.num_calls : 0;
        }
      EXPECT_EQ(num_scattered, num_parameters) << precision << " tensor=" << tensor;
      EXPECT_EQ(num_gathered, num_parameters) << precision << " tensor=" << tensor;
    }
}

INSTANTIATE_TEST_SUITE_P(Models, MeshEquality, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace takt
