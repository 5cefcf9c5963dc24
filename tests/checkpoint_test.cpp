// Checkpoints: any mesh loads what any mesh wrote, and nothing damaged is ever loaded.
#include "core/state/checkpoint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <fstream>
#include <functional>
#include <mutex>
#include <sstream>

#include "collectives/local.h"
#include "core/base/error.h"
#include "core/state/files.h"
#include "core/state/region.h"
#include "core/state/safetensors.h"
#include "core/state/save_lock.h"
#include "tests/sharded_state.h"

namespace takt {
namespace {

using namespace testing_state;
using std::filesystem::path;

path fresh_directory() {
  const path directory = testing::TempDir() + "/takt-checkpoint-" + random_suffix();
  std::filesystem::create_directories(directory);
  return directory;
}

TrainingCursor cursor_at(std::int64_t step) {
  return {.step = step,
          .samples = 32 * step,
          .seed = ~0ull - 1,
          .best_valid_loss = 3.14159,
          .effective_job = "a = \"b\"\n",
          .compared = {.version = 7, .facts = {{"seed", "3"}, {"data.train", "\"quoted\" \n"}}}};
}

path save(const path& root, Split split, std::int64_t step, int keep = 3) {
  run_ranks(split.num_ranks(), [&](Communicator& world) {
    RankState state = state_of(split, world.rank(), 0);
    fill_with_values(state);
    const SaveReport report = save_checkpoint(root, state.shards, cursor_at(step), keep, world);
    EXPECT_EQ(report.num_bytes, 4u * (35 + 36 + 7 + 1 + 35 + 7));
    EXPECT_TRUE(std::filesystem::is_directory(report.directory));
  });
  return list_checkpoints(root).back();
}

void expect_loads(const path& directory, Split split) {
  run_ranks(split.num_ranks(), [&](Communicator& world) {
    RankState state = state_of(split, world.rank(), kPadding);
    const TrainingCursor cursor = load_checkpoint(directory, state.shards, world);
    EXPECT_EQ(cursor.seed, ~0ull - 1);
    EXPECT_EQ(cursor.samples, 32 * cursor.step);
    EXPECT_EQ(cursor.best_valid_loss, 3.14159);
    EXPECT_EQ(cursor.effective_job, "a = \"b\"\n");
    EXPECT_EQ(cursor.compared, cursor_at(0).compared);
    for (std::size_t i = 0; i < state.shards.size(); ++i)
      EXPECT_EQ(state.buffers[i], expected_buffer(state.shards[i], kPadding)) << state.shards[i].name;
  });
}

// The message of the kData error that every rank gets; nothing may have been loaded.
std::string refusal(const path& directory, Split split) {
  std::mutex mutex;
  std::vector<std::string> messages;
  run_ranks(split.num_ranks(), [&](Communicator& world) {
    RankState state = state_of(split, world.rank(), kPadding);
    try {
      load_checkpoint(directory, state.shards, world);
    } catch (const Error& error) {
      const std::lock_guard lock(mutex);
      EXPECT_EQ(error.fault(), Fault::kData) << error.what();
      messages.emplace_back(error.what());
    }
    for (const std::vector<float>& buffer : state.buffers)
      for (const float value : buffer) EXPECT_EQ(value, kPadding);
  });
  EXPECT_EQ(messages.size(), static_cast<std::size_t>(split.num_ranks())) << "a rank loaded " << directory;
  for (const std::string& message : messages) EXPECT_EQ(message, messages.front());
  return messages.empty() ? "" : messages.front();
}

std::string contents(const path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

void overwrite(const path& file, const std::string& text) {
  std::ofstream(file, std::ios::trunc) << text;
}

std::vector<path> files_in(const path& directory) {
  std::vector<path> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> names_in(const path& directory) {
  std::vector<std::string> names;
  for (const path& file : files_in(directory))
    if (file.filename() != ".lock") names.push_back(file.filename().string());
  return names;
}

constexpr Split kOne = {1, 1};

TEST(Checkpoint, AnySplitLoadsWhatAnySplitWrote) {
  constexpr std::array<Split, 6> kSplits = {{{1, 1}, {2, 1}, {1, 2}, {4, 1}, {1, 4}, {2, 2}}};
  for (const Split& saved : kSplits) {
    const path directory = save(fresh_directory(), saved, 12);
    for (const Split& loaded : kSplits) {
      SCOPED_TRACE(testing::Message()
                   << saved.rows << "x" << saved.columns << " -> " << loaded.rows << "x" << loaded.columns);
      expect_loads(directory, loaded);
    }
  }
}

// Shards whose memory the host does not reach are saved and loaded through their calls alone, in elements of
// two bytes and with padding between the rows. More than a window's bytes, so that the window moves.
TEST(Checkpoint, MemoryOfADeviceIsReachedByItsCalls) {
  constexpr std::int64_t kRows = 3001, kColumns = 3000, kPaddedColumns = 3008;
  const auto shard_in = [](std::vector<std::uint16_t>& device) {
    ShardMemory memory = host_memory(device.data(), DType::kBF16);
    memory.host = nullptr;
    return TensorShard{.name = "w",
                       .dtype = DType::kBF16,
                       .global_shape = {kRows, kColumns},
                       .buffer_shape = {kRows, kPaddedColumns},
                       .offset = {0, 0},
                       .extent = {kRows, kColumns},
                       .memory = memory};
  };
  std::vector<std::uint16_t> device(kRows * kPaddedColumns);
  for (std::size_t i = 0; i < device.size(); ++i) device[i] = static_cast<std::uint16_t>(i * 40503);
  const path root = fresh_directory();
  run_ranks(1, [&](Communicator& world) {
    const std::vector<TensorShard> saved = {shard_in(device)};
    save_checkpoint(root, saved, cursor_at(1), 2, world);
    std::vector<std::uint16_t> loaded(device.size(), 7);
    const std::vector<TensorShard> wanted = {shard_in(loaded)};
    load_checkpoint(root / "step-000001", wanted, world);
    for (std::size_t i = 0; i < device.size(); ++i)
      ASSERT_EQ(loaded[i], i % kPaddedColumns < kColumns ? device[i] : 7) << i;
  });
}

TEST(Checkpoint, HasTheDocumentedNames) {
  const path root = fresh_directory() / "checkpoint";
  save(root, {2, 1}, 500);
  EXPECT_EQ(names_in(root), (std::vector<std::string>{"LATEST", "step-000500"}));
  EXPECT_EQ(contents(root / "LATEST"), "step-000500\n");
  EXPECT_EQ(names_in(root / "step-000500"),
            (std::vector<std::string>{
                "manifest.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                "optimizer-00001-of-00002.safetensors", "optimizer-00002-of-00002.safetensors"}));
}

// Written before manifests had a table of compared facts, by two ranks.
TEST(Checkpoint, OfFormatVersion1Loads) {
  const path directory = path(TAKT_SOURCE_DIR) / "tests/golden/checkpoint-v1/step-000012";
  for (const Split& split : {kOne, Split{2, 2}})
    run_ranks(split.num_ranks(), [&](Communicator& world) {
      RankState state = state_of(split, world.rank(), kPadding);
      const TrainingCursor cursor = load_checkpoint(directory, state.shards, world);
      EXPECT_EQ(cursor.step, 12);
      EXPECT_EQ(cursor.samples, 32 * 12);
      EXPECT_EQ(cursor.seed, ~0ull - 1);
      EXPECT_EQ(cursor.effective_job, "a = \"b\"\n");
      EXPECT_EQ(cursor.compared.version, 0);
      for (std::size_t i = 0; i < state.shards.size(); ++i)
        EXPECT_EQ(state.buffers[i], expected_buffer(state.shards[i], kPadding)) << state.shards[i].name;
    });
}

TEST(Checkpoint, EveryFlippedByteIsFound) {
  const path root = fresh_directory();
  run_ranks(1, [&](Communicator& world) {
    RankState state = state_of(kOne, 0, 0);
    const std::vector<TensorShard> shards = {state.shards[3], state.shards[5]};  // few bytes: each is tried
    const path directory = save_checkpoint(root, shards, cursor_at(1), 2, world).directory;
    for (const path& file : files_in(directory)) {
      const std::string whole = contents(file);
      for (std::size_t i = 0; i < whole.size(); ++i) {
        std::string damaged = whole;
        damaged[i] = static_cast<char>(damaged[i] ^ (1 << (i % 8)));
        overwrite(file, damaged);
        try {
          load_checkpoint(directory, shards, world);
          ADD_FAILURE() << file << ": byte " << i;
        } catch (const Error& error) {
          EXPECT_EQ(error.fault(), Fault::kData);
          EXPECT_NE(std::string(error.what()).find(file.string()), std::string::npos) << error.what();
        }
      }
      overwrite(file, whole);
    }
    load_checkpoint(directory, shards, world);
  });
}

TEST(Checkpoint, TruncatedMissingAndSwappedFilesAreNamed) {
  const path root = fresh_directory();
  save(root, {2, 1}, 1);
  const path directory = save(root, {2, 1}, 2);
  for (const path& file : files_in(directory)) {
    const std::string whole = contents(file);
    for (const std::size_t length : {std::size_t{0}, whole.size() / 2, whole.size() - 1}) {
      overwrite(file, whole.substr(0, length));
      EXPECT_NE(refusal(directory, {2, 1}).find(file.string()), std::string::npos) << length;
    }
    std::filesystem::remove(file);
    const std::string message = refusal(directory, {2, 2});
    EXPECT_NE(message.find(file.string()), std::string::npos) << message;
    EXPECT_NE(message.find("--resume " + (root / "step-000001").string()), std::string::npos) << message;
    overwrite(file, whole);
  }
  const path first = directory / "model-00001-of-00002.safetensors";
  const path second = directory / "model-00002-of-00002.safetensors";
  const std::string kept = contents(first);
  overwrite(first, contents(second));
  overwrite(second, kept);
  EXPECT_NE(refusal(directory, {2, 1}).find(first.string()), std::string::npos);
}

TEST(Checkpoint, ALinkInPlaceOfAShardIsRefused) {
  const path root = fresh_directory();
  const path directory = save(root, kOne, 1);
  const path file = directory / "model-00001-of-00001.safetensors";
  std::filesystem::rename(file, root / "elsewhere");
  std::filesystem::create_symlink(root / "elsewhere", file);
  EXPECT_NE(refusal(directory, kOne).find("symbolic link"), std::string::npos);
}

TEST(Checkpoint, AnotherModelIsRefusedByTensor) {
  const path directory = save(fresh_directory(), kOne, 1);
  const auto message_after = [&](const std::function<void(std::vector<TensorShard>&)>& change) {
    std::string message;
    run_ranks(1, [&](Communicator& world) {
      RankState state = state_of(kOne, 0, kPadding);
      change(state.shards);
      try {
        load_checkpoint(directory, state.shards, world);
      } catch (const Error& error) {
        EXPECT_EQ(error.fault(), Fault::kData);
        message = error.what();
      }
    });
    return message;
  };
  const auto says = [](const std::string& message, const char* text) {
    return message.find(text) != std::string::npos;
  };
  EXPECT_TRUE(
      says(message_after([](auto& shards) { shards[0].name = "wpe.weight"; }), "no tensor 'wpe.weight'"));
  EXPECT_TRUE(says(message_after([](auto& shards) { shards[0].global_shape = {5, 8}; }), "wants f32[5, 8]"));
  EXPECT_TRUE(says(message_after([](auto& shards) { shards[0].dtype = DType::kI32; }), "wants i32[5, 7]"));
  EXPECT_TRUE(
      says(message_after([](auto& shards) { shards.erase(shards.begin() + 1); }), "tensor 'h.0.attn.qkv'"));
  EXPECT_TRUE(says(message_after([](auto& shards) { shards.pop_back(); }), "tensor 'adam_m.h.0.bias'"));
  EXPECT_EQ(message_after([](auto& shards) { shards.resize(4); }), "")
      << "a model loads without optimizer state";
}

TEST(Checkpoint, KeepsTheNewestAndAtLeastTwo) {
  const path root = fresh_directory();
  for (const std::int64_t step : {1, 2, 3, 4}) save(root, kOne, step, 3);
  EXPECT_EQ(names_in(root),
            (std::vector<std::string>{"LATEST", "step-000002", "step-000003", "step-000004"}));
  save(root, kOne, 5, 1);
  EXPECT_EQ(names_in(root), (std::vector<std::string>{"LATEST", "step-000004", "step-000005"}));
}

TEST(Checkpoint, ASaveAfterGoingBackDoesNotDeleteItself) {
  const path root = fresh_directory();
  for (const std::int64_t step : {1, 10, 11}) save(root, kOne, step, 2);
  save(root, kOne, 2, 2);
  EXPECT_EQ(names_in(root),
            (std::vector<std::string>{"LATEST", "step-000002", "step-000010", "step-000011"}));
  EXPECT_EQ(contents(root / "LATEST"), "step-000002\n");
}

TEST(Checkpoint, SavingAStepAgainReplacesIt) {
  const path root = fresh_directory();
  const path directory = save(root, {2, 2}, 7);
  overwrite(directory / "model-00001-of-00004.safetensors", "damaged");
  save(root, {1, 2}, 7);
  EXPECT_EQ(names_in(root), (std::vector<std::string>{"LATEST", "step-000007"}));
  expect_loads(directory, {2, 1});
}

TEST(Checkpoint, WhatACrashLeavesIsIgnoredAndThenDeleted) {
  const path root = fresh_directory();
  save(root, kOne, 1);
  std::filesystem::copy(root / "step-000001", root / ".tmp-000002-0123456789abcdef");
  std::filesystem::create_directories(root / "step-000003");  // no manifest
  std::filesystem::create_directories(root / "step-4");
  overwrite(root / "LATEST", "step-000999\n");
  EXPECT_EQ(list_checkpoints(root), std::vector<path>{root / "step-000001"});
  save(root, kOne, 5);
  EXPECT_FALSE(std::filesystem::exists(root / ".tmp-000002-0123456789abcdef"));
  EXPECT_EQ(contents(root / "LATEST"), "step-000005\n");
  EXPECT_TRUE(list_checkpoints(root / "absent").empty());
}

// Another process may be saving below the same root: its staging directory is left alone as long as it lives.
TEST(Checkpoint, WhatAnotherSaveIsWritingIsNotDeleted) {
  const path root = fresh_directory();
  save(root, kOne, 1);
  const path others = root / ".tmp-000002-0123456789abcdef";
  std::filesystem::create_directories(others);
  {
    const SaveLock other(root);
    save(root, kOne, 2);
    EXPECT_TRUE(std::filesystem::exists(others));
    for (const std::int64_t step : {3, 4, 5}) save(root, kOne, step, 2);  // its own are deleted meanwhile
    EXPECT_EQ(names_in(root),
              (std::vector<std::string>{others.filename().string(), "LATEST", "step-000004", "step-000005"}));
  }
  save(root, kOne, 6);
  EXPECT_FALSE(std::filesystem::exists(others));
}

// Runs a save that must fail; how many ranks got an Error of that fault.
int num_failed_ranks(int num_ranks, Fault fault, const std::function<void(Communicator&)>& save_on_rank) {
  std::atomic<int> num_failed = 0;
  run_ranks(num_ranks, [&](Communicator& world) {
    try {
      save_on_rank(world);
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), fault) << error.what();
      ++num_failed;
    }
  });
  return num_failed;
}

TEST(Checkpoint, ARootThatCannotWriteFailsEveryRank) {
  const path file = fresh_directory() / "file";
  overwrite(file, "x");
  EXPECT_EQ(num_failed_ranks(4, Fault::kIo,
                             [&](Communicator& world) {
                               RankState state = state_of({4, 1}, world.rank(), 0);
                               save_checkpoint(file / "checkpoint", state.shards, cursor_at(1), 2, world);
                             }),
            4);
}

TEST(Checkpoint, ARankThatCannotWriteFailsEveryRankAndNothingChanges) {
  const path root = fresh_directory();
  save(root, {4, 1}, 1);
  EXPECT_EQ(num_failed_ranks(4, Fault::kIo,
                             [&](Communicator& world) {
                               RankState state = state_of({4, 1}, world.rank(), 0);
                               const path seen = world.rank() == 2 ? root / "not-mounted-here" : root;
                               save_checkpoint(seen, state.shards, cursor_at(2), 2, world);
                             }),
            4);
  EXPECT_EQ(names_in(root), (std::vector<std::string>{"LATEST", "step-000001"}));
  expect_loads(root / "step-000001", {2, 2});
}

TEST(Checkpoint, RegionsThatDoNotCoverATensorAreNotSaved) {
  const path root = fresh_directory();
  const auto save_after = [&](const std::function<void(int rank, TensorShard&)>& change) {
    return num_failed_ranks(2, Fault::kBug, [&](Communicator& world) {
      RankState state = state_of({2, 1}, world.rank(), 0);
      change(world.rank(), state.shards[0]);
      save_checkpoint(root, state.shards, cursor_at(1), 2, world);
    });
  };
  EXPECT_EQ(save_after([](int rank, TensorShard& shard) { shard.writes = rank == 0; }), 2) << "a hole";
  EXPECT_EQ(save_after([](int, TensorShard& shard) { shard.offset[0] = 0; }), 2) << "an overlap";
  EXPECT_EQ(save_after([](int rank, TensorShard& shard) { shard.global_shape[0] += rank; }), 2)
      << "two shapes";
  EXPECT_TRUE(names_in(root).empty());
}

TEST(Checkpoint, ExportAssemblesWholeTensors) {
  const path root = fresh_directory();
  const path directory = save(root, {2, 2}, 3);
  const path file = root / "final" / "model.safetensors";
  const std::vector<ExportedTensor> tensors = {
      {"h.0.attn.qkv", {6, 6}}, {"wte.weight", {5, 7}}, {"scale", {}}};
  export_model(directory, tensors, file);
  export_model(directory, tensors, file);  // replaced
  EXPECT_EQ(names_in(root / "final"), std::vector<std::string>{"model.safetensors"});
  EXPECT_NE(contents(file).find(R"("__metadata__":{"format":"pt"})"), std::string::npos);
  const SafetensorsFile exported(file);
  EXPECT_EQ(exported.tensors().size(), tensors.size());
  for (const ExportedTensor& tensor : tensors) {
    const StoredTensor* found = exported.find(tensor.name);
    ASSERT_NE(found, nullptr) << tensor.name;
    EXPECT_EQ(found->shape, tensor.shape);
    std::vector<float> elements(static_cast<std::size_t>(volume(tensor.shape)));
    std::memcpy(elements.data(), exported.data(*found), found->num_bytes);
    for (std::size_t i = 0; i < elements.size(); ++i)
      EXPECT_EQ(elements[i], value_of(tensor.name, static_cast<std::int64_t>(i)));
  }
  const std::vector<ExportedTensor> unknown = {{"lm_head.weight", {5, 7}}};
  const std::vector<ExportedTensor> misshapen = {{"wte.weight", {5, 8}}};
  EXPECT_THROW(export_model(directory, unknown, root / "b"), Error);
  EXPECT_THROW(export_model(directory, misshapen, root / "b"), Error);
  EXPECT_FALSE(std::filesystem::exists(root / "b"));
}

}  // namespace
}  // namespace takt
