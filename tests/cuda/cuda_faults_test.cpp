// Trainings on GPUs of which one fails: every rank ends in time, and says why.
#include <gmock/gmock.h>
#include <nccl.h>

#include <cstdlib>
#include <iostream>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <tuple>

#include "tests/cuda/cuda_test.h"
#include "tests/cuda/small_training.h"
#include "tests/emulated/control.h"
#include "tests/emulated/nccl_control.h"

namespace takt {
namespace {

using emulated::NcclFault;
using testing::AllOf;
using testing::HasSubstr;

using Failures = std::map<int, Error>;  // by rank

// Two ranks whose optimizer is sharded, so that their steps have every kind of call: sums of gradients that are cut,
// weights that are put together again, one sum over all.
SmallTraining training_of() {
  SmallTraining training{.step = {.global_batch = 4, .micro_batch = 1, .steps = 2, .grad_clip = 0.8},
                         .data = 2,
                         .num_steps = 2,
                         // A deadline that a busy machine keeps and a test can wait for.
                         .nccl = {.connect_timeout_s = 4, .call_timeout_s = 4}};
  training.step.layout.shard = Shard::kOptimizer;
  training.step.bucket_bytes = 2000;
  training.step.overlap = {.joins_update = true, .extra_bytes = 1 << 20};
  return training;
}

class CudaFaults : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    emulated::reset_nccl();
    before_ = emulated::counters();
  }
  // Whatever went wrong, nothing is left behind.
  void TearDown() override {
    emulated::reset();
    emulated::reset_nccl();
    EXPECT_TRUE(emulated::live_communicators().empty());
    const emulated::Counters after = emulated::counters();
    EXPECT_EQ(after.num_live_allocations, before_.num_live_allocations);
    EXPECT_EQ(after.live_bytes, before_.live_bytes);
    EXPECT_EQ(after.num_live_streams, before_.num_live_streams);
    EXPECT_EQ(after.num_live_events, before_.num_live_events);
    EXPECT_EQ(after.num_live_graphs, before_.num_live_graphs);
  }

  Failures failures() {
    Failures failures;
    std::mutex mutex;
    run_ranks(run_.num_ranks(), [&](Communicator& world) {
      try {
        run_.on_rank(world);
      } catch (const Error& error) {
        const std::lock_guard lock(mutex);
        failures.emplace(world.rank(), error);
      }
    });
    return failures;
  }

  const SmallRun run_{small_mlp({.layers = 1, .embed = 8, .mlp = 10}), training_of(), DeviceKind::kCuda};
  emulated::Counters before_;
};

TEST_F(CudaFaults, ATrainingLeavesNothingBehind) {
  SmallTraining patient = training_of();  // ThreadSanitizer makes it slow
  patient.nccl = {};
  SmallRun(small_mlp({.layers = 1, .embed = 8, .mlp = 10}), patient, DeviceKind::kCuda)();
  EXPECT_EQ(emulated::all_diagnoses(), "");
}

// At the recording of a graph, or before.
TEST_F(CudaFaults, ACallThatFailsEndsAllRanks) {
  for (const char* const call : {"ncclReduceScatter", "ncclAllGather", "ncclAllReduce"}) {
    SCOPED_TRACE(call);
    emulated::inject_nccl({.call = call, .device = 1, .after = 1, .code = ncclSystemError});
    const Failures found = failures();
    ASSERT_EQ(found.size(), 2u);
    EXPECT_EQ(found.at(0).fault(), Fault::kPeer);
    EXPECT_EQ(found.at(1).fault(), Fault::kPeer);
    EXPECT_EQ(found.at(1).exit_code(), 79);
    EXPECT_THAT(found.at(1).what(),
                AllOf(HasSubstr("node '"), HasSubstr("in group data"), HasSubstr("unhandled system error")));
    emulated::reset_nccl();
  }
}

TEST_F(CudaFaults, ACallThatNeverFinishesEndsAllRanks) {
  for (const char* const call : {"ncclReduceScatter", "ncclAllGather"}) {
    SCOPED_TRACE(call);
    emulated::inject_nccl({.call = call, .device = 1, .after = 2, .how = NcclFault::How::kNeverFinishes});
    const Failures found = failures();
    ASSERT_EQ(found.size(), 2u);
    for (const auto& [rank, error] : found) {
      EXPECT_EQ(error.fault(), Fault::kPeer);
      EXPECT_THAT(error.what(), AllOf(HasSubstr("in group data"), HasSubstr("has not finished within 4 s")));
      // Whichever call of the graph is the first, the one that hangs is among those that are named.
      const std::string op = call == std::string("ncclAllGather") ? "all_gather" : "reduce_scatter";
      EXPECT_THAT(error.what(), AllOf(HasSubstr("it, or one of these:"), HasSubstr(op)));
    }
    emulated::reset_nccl();
  }
}

TEST_F(CudaFaults, AnAsynchronousErrorEndsAllRanks) {
  emulated::inject_nccl(
      {.call = "ncclReduceScatter", .device = 0, .how = NcclFault::How::kBreaks, .code = ncclRemoteError});
  const Failures found = failures();
  ASSERT_EQ(found.size(), 2u);
  for (const auto& [rank, error] : found) EXPECT_EQ(error.fault(), Fault::kPeer);
  // Either rank may be the first to meet it.
  EXPECT_THAT(concat(found.at(0).what(), found.at(1).what()), HasSubstr("group data[0]"));
}

// The emulator breaks one of the two devices; its rank knows the reason, the other one only that it waits. In a process of
// its own: a broken device frees nothing.
[[noreturn]] void end_with(const Failures& found, Fault fault, const std::string& text) {
  for (const auto& [rank, error] : found) std::cerr << "rank " << rank << ": " << error.what() << "\n";
  if (found.size() != 2) std::_Exit(1);
  const int broken = found.at(0).fault() == fault ? 0 : 1;
  const bool says_why = found.at(broken).fault() == fault &&
                        std::string_view(found.at(broken).what()).find(text) != std::string::npos;
  std::_Exit(says_why && found.at(1 - broken).fault() == Fault::kPeer ? 0 : 1);
}

TEST_F(CudaFaults, ABrokenDeviceEndsAllRanks) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (const auto& [code, fault, text] :
       {std::tuple(cudaErrorIllegalAddress, Fault::kBug, "cudaErrorIllegalAddress"),
        {cudaErrorECCUncorrectable, Fault::kCorruption, "cudaErrorECCUncorrectable"}}) {
    SCOPED_TRACE(text);
    EXPECT_EXIT((emulated::inject("kernel.run", code, 30), end_with(failures(), fault, text)),
                testing::ExitedWithCode(0), text);
  }
}

TEST_F(CudaFaults, APlanThatDoesNotFitSaysWhatItNeeds) {
  emulated::Settings settings = emulated::settings();
  settings.memory_bytes = run_.plan().arena.num_bytes() / 2;
  emulated::configure(settings);
  const Failures found = failures();
  ASSERT_EQ(found.size(), 2u);
  for (const auto& [rank, error] : found) {
    EXPECT_EQ(error.fault(), Fault::kMemory);
    EXPECT_EQ(error.exit_code(), 71);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("the arena needs"), HasSubstr("are free on this GPU")));
  }
}

TEST_F(CudaFaults, AGpuThatIsUsedByOthersEndsAllRanks) {
  emulated::Settings settings = emulated::settings();
  settings.memory_bytes = 2 * run_.plan().arena.num_bytes();
  emulated::configure(settings);
  TAKT_CUDA(cudaSetDevice(1));
  void* of_others = nullptr;
  TAKT_CUDA(cudaMalloc(&of_others, settings.memory_bytes * 3 / 4));
  const Failures found = failures();
  cudaFree(of_others);
  cudaSetDevice(0);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found.at(1).fault(), Fault::kMemory);
  EXPECT_EQ(found.at(0).fault(), Fault::kPeer);
}

}  // namespace
}  // namespace takt
