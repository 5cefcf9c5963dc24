// weights_hash: one number for one set of weights, however they are cut; another for any other set.
#include "core/state/weights_hash.h"

#include "tests/mesh_training.h"

namespace takt {
namespace {

Mesh mesh_of(int replica, int data, int tensor) {
  return {{{"replica", replica, 1}, {"data", data, 1}, {"tensor", tensor}}};
}

// Of initial weights; every rank must say the same.
std::uint64_t hash_of_initial_weights(const Subject& subject, const StepConfig& step, const Mesh& mesh) {
  const StepPlan plan = compile_step(subject.task(), step, mesh, 1);
  std::vector<std::uint64_t> hashes(static_cast<std::size_t>(mesh.num_ranks()));
  run_ranks(mesh.num_ranks(), [&](Communicator& world) {
    Trainer trainer(subject.task(), step, plan, world);
    trainer.initialize_weights();
    hashes[static_cast<std::size_t>(world.rank())] = weights_hash(trainer.shards(), world);
  });
  for (const std::uint64_t hash : hashes) EXPECT_EQ(hash, hashes.front()) << to_string(mesh);
  return hashes.front();
}

TEST(WeightsHash, IsTheSameOnEveryMesh) {
  for (const Case& test : cases()) {
    SCOPED_TRACE(test.name);
    const std::unique_ptr<Subject> subject = test.make();
    StepConfig step = test.step;
    const std::uint64_t alone = hash_of_initial_weights(*subject, step, mesh_of(1, 1, 1));
    for (const Shard shard : {Shard::kNone, Shard::kOptimizer, Shard::kParameters})
      for (const auto& [replica, data, tensor] : {std::tuple(1, 1, 2), {1, 4, 1}, {2, 2, 2}, {1, 2, 4}}) {
        step.layout.shard = shard;
        EXPECT_EQ(hash_of_initial_weights(*subject, step, mesh_of(replica, data, tensor)), alone)
            << shard_names()[static_cast<std::size_t>(shard)];
      }
    step = test.step;
    step.seed += 1;
    EXPECT_NE(hash_of_initial_weights(*subject, step, mesh_of(1, 1, 1)), alone);
  }
}

// Of one 3 x 4 tensor that one rank holds.
std::uint64_t hash_of(std::vector<float> elements, const std::string& name = "w") {
  std::uint64_t hash = 0;
  run_ranks(1, [&](Communicator& world) {
    const TensorShard shard{.name = name,
                            .global_shape = {3, 4},
                            .buffer_shape = {3, 4},
                            .offset = {0, 0},
                            .extent = {3, 4},
                            .memory = host_memory(elements.data(), DType::kF32)};
    hash = weights_hash(std::span(&shard, 1), world);
  });
  return hash;
}

TEST(WeightsHash, SeesEveryFlippedBitExchangeAndName) {
  std::vector<float> elements;
  for (int i = 0; i < 12; ++i) elements.push_back(0.25f * static_cast<float>(i));
  const std::uint64_t whole = hash_of(elements);
  for (std::size_t i = 0; i < elements.size(); ++i)
    for (int bit = 0; bit < 32; ++bit) {
      std::vector<float> flipped = elements;
      flipped[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(flipped[i]) ^ (1u << bit));
      EXPECT_NE(hash_of(flipped), whole) << "element " << i << ", bit " << bit;
    }
  for (std::size_t i = 1; i < elements.size(); ++i) {
    std::vector<float> exchanged = elements;
    std::swap(exchanged[0], exchanged[i]);
    EXPECT_NE(hash_of(exchanged), whole) << "elements 0 and " << i;
  }
  EXPECT_NE(hash_of(elements, "v"), whole);
}

// The definition is part of the format of summaries.
TEST(WeightsHash, NeverChanges) {
  EXPECT_EQ(hex_text(0xF3), "00000000000000f3");
  EXPECT_EQ(hex_text(hash_of({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11})), "506b644880523c91");
}

}  // namespace
}  // namespace takt
