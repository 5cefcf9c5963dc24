// What a rank holds of its GPU: streams, hand-overs, graphs, the arena and transfers.
#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "core/device/cuda/arena.h"
#include "core/device/cuda/graph.h"
#include "core/device/cuda/hand_over.h"
#include "core/device/cuda/transfer.h"
#include "tests/cuda/cuda_test.h"

namespace takt {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

constexpr std::size_t kNumElements = 1024;
constexpr std::size_t kNumBytes = kNumElements * sizeof(int);

template <class Action>
std::optional<Fault> fault_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.fault();
  }
  return std::nullopt;
}

// Three pieces of the GPU's memory, and two of the host's.
class DeviceTest : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (IsSkipped()) return;
    context_.emplace(CudaOptions{.num_streams = 3});
    arena_.emplace(3 * kNumBytes, ArenaKind::kPlain, stream(0));
    from_.emplace(kNumBytes);
    to_.emplace(kNumBytes);
    std::ranges::fill(elements_of<int>(*from_), 7);
    std::ranges::fill(to(), 0);
    context_->synchronize();
  }
  void TearDown() override {
    if (context_) context_->synchronize();
    CudaTest::TearDown();
  }

  const CudaStream& stream(int number) const { return context_->stream(number); }
  std::byte* piece(std::size_t number) const { return arena_->data() + number * kNumBytes; }
  std::span<int> to() const { return elements_of<int>(*to_); }
  void copy_in(std::byte* device, const CudaStream& on) const {
    TAKT_CUDA(cudaMemcpyAsync(device, from_->bytes().data(), kNumBytes, cudaMemcpyHostToDevice, on.get()));
  }
  void copy(std::byte* device_to, const std::byte* device_from, const CudaStream& on) const {
    TAKT_CUDA(cudaMemcpyAsync(device_to, device_from, kNumBytes, cudaMemcpyDeviceToDevice, on.get()));
  }
  void copy_out(const std::byte* device, const CudaStream& on) const {
    TAKT_CUDA(cudaMemcpyAsync(to_->bytes().data(), device, kNumBytes, cudaMemcpyDeviceToHost, on.get()));
  }

  std::optional<CudaContext> context_;
  std::optional<DeviceArena> arena_;
  std::optional<PinnedBuffer> from_, to_;
};

TEST_F(DeviceTest, AContextKnowsItsGpu) {
  EXPECT_GE(context_->compute_capability(), 90);
  EXPECT_GT(context_->num_multiprocessors(), 0);
  EXPECT_EQ(context_->num_streams(), 3);
  EXPECT_EQ(fault_of([&] { stream(3); }), Fault::kBug);
}

TEST_F(DeviceTest, ADeviceThatIsNotThereIsRefused) {
  EXPECT_EQ(fault_of([] { CudaContext context({.device = 1000}); }), Fault::kConfig);
  cudaGetLastError();
}

TEST_F(DeviceTest, WorkIsDoneAfterSynchronize) {
  copy_in(piece(0), stream(0));
  copy_out(piece(0), stream(0));
  stream(0).synchronize();
  EXPECT_TRUE(stream(0).is_idle());
  EXPECT_THAT(to(), Each(7));
}

TEST_F(DeviceTest, AnArenaStartsWithZeros) {
  std::ranges::fill(to(), 1);
  copy_out(piece(2), stream(0));
  stream(0).synchronize();
  EXPECT_THAT(to(), Each(0));
}

TEST_F(DeviceTest, AnArenaThatNcclCanRegisterIsMemoryLikeAnyOther) {
  const DeviceArena arena(kNumBytes, ArenaKind::kRegistrable, stream(0));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena.data()) % 256, 0u);
  copy_in(arena.data(), stream(0));
  copy_out(arena.data(), stream(0));
  stream(0).synchronize();
  EXPECT_THAT(to(), Each(7));
}

TEST_F(DeviceTest, AnArenaThatDoesNotFitSaysWhatThereIs) {
  try {
    DeviceArena(std::size_t{1} << 50, ArenaKind::kPlain, stream(0));
    FAIL() << "a petabyte was allocated";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kMemory);
    EXPECT_THAT(error.what(), testing::HasSubstr("are free on this GPU"));
  }
}

TEST_F(DeviceTest, AHandOverOrdersTwoStreams) {
  HandOver value("value"), copied("copied");
  copy_in(piece(0), stream(0));
  value.give(stream(0));
  value.take(stream(1));
  copy(piece(1), piece(0), stream(1));
  copied.give(stream(1));
  copied.take(stream(2));
  copy_out(piece(1), stream(2));
  stream(2).synchronize();
  EXPECT_THAT(to(), Each(7));
  EXPECT_EQ(value.num_waits() + copied.num_waits(), 2);
}

TEST_F(DeviceTest, WhatIsStillReadIsNotOverwritten) {
  HandOver value("value"), read("value after its use");
  copy_in(piece(0), stream(0));
  value.give(stream(0));
  value.take(stream(1));
  copy_out(piece(0), stream(1));
  read.give(stream(1));
  read.take(stream(0));
  TAKT_CUDA(cudaMemsetAsync(piece(0), 0, kNumBytes, stream(0).get()));
  context_->synchronize();
  EXPECT_THAT(to(), Each(7));
}

TEST_F(DeviceTest, AStreamDoesNotWaitForItself) {
  HandOver value("value");
  value.give(stream(1));
  value.take(stream(1));
  EXPECT_EQ(value.num_waits(), 0);
}

TEST_F(DeviceTest, TakingWhatWasNotGivenIsABug) {
  HandOver value("value");
  EXPECT_EQ(fault_of([&] { value.take(stream(0)); }), Fault::kBug);
  EXPECT_EQ(fault_of([&] { value.wait_on_host(); }), Fault::kBug);
}

TEST_F(DeviceTest, AGraphRunsWhenItIsLaunchedAndEachTimeAnew) {
  const CudaGraph graph(stream(0), [&] {
    copy_in(piece(0), stream(0));
    copy_out(piece(0), stream(0));
  });
  EXPECT_EQ(graph.num_nodes(), 2u);
  stream(0).synchronize();
  EXPECT_THAT(to(), Each(0));
  for (int value = 1; value <= 3; ++value) {
    std::ranges::fill(elements_of<int>(*from_), value);
    graph.launch(stream(0));
    stream(0).synchronize();
    EXPECT_THAT(to(), Each(value));
  }
}

TEST_F(DeviceTest, StreamsJoinAGraphByHandOvers) {
  HandOver fork("input"), join("output");
  const CudaGraph graph(stream(0), [&] {
    copy_in(piece(0), stream(0));
    fork.give(stream(0));
    fork.take(stream(1));
    copy(piece(1), piece(0), stream(1));
    join.give(stream(1));
    join.take(stream(0));
    copy_out(piece(1), stream(0));
  });
  graph.launch(stream(0));
  stream(0).synchronize();
  EXPECT_THAT(to(), Each(7));
}

TEST_F(DeviceTest, AnErrorWhileAGraphIsRecordedLeavesTheStreamUsable) {
  EXPECT_EQ(fault_of([&] { CudaGraph graph(stream(0), [] { fail(Fault::kNumerics, "in the middle"); }); }),
            Fault::kNumerics);
  copy_in(piece(0), stream(0));
  copy_out(piece(0), stream(0));
  stream(0).synchronize();
  EXPECT_THAT(to(), Each(7));
}

TEST_F(DeviceTest, EventsTakeTheTime) {
  const CudaEvent begin(EventTiming::kOn), end(EventTiming::kOn);
  begin.record(stream(0));
  copy_in(piece(0), stream(0));
  end.record(stream(0));
  end.synchronize();
  EXPECT_TRUE(end.is_done());
  EXPECT_GE(end.seconds_since(begin), 0.0);
}

// Two slots, as an executor has: while the step reads one, the host writes the other.
TEST_F(DeviceTest, InputsArriveInOrderWhileTheStepRuns) {
  std::vector<InputSlot> slots;
  for (int slot = 0; slot < 2; ++slot) slots.emplace_back("tokens", kNumBytes);
  std::vector<int> tokens(kNumElements);
  std::vector<ReadBack> results;
  for (int micro_batch = 0; micro_batch < 6; ++micro_batch) {
    const auto slot = static_cast<std::size_t>(micro_batch % 2);
    std::ranges::fill(tokens, micro_batch);
    slots[slot].write(std::as_bytes(std::span(tokens)), piece(slot), context_->copy_stream());
    std::ranges::fill(tokens, -1);  // the slot has its own copy
    slots[slot].begin_use(stream(0));
    copy(piece(2), piece(slot), stream(0));
    slots[slot].end_use(stream(0));
    results.emplace_back(sizeof(int)).queue({piece(2), sizeof(int)}, stream(0));
  }
  std::vector<int> seen;
  for (const ReadBack& result : results) seen.push_back(*reinterpret_cast<const int*>(result.wait().data()));
  EXPECT_THAT(seen, ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST_F(DeviceTest, AnInputThatWasNeverWrittenIsABug) {
  InputSlot slot("tokens", kNumBytes);
  EXPECT_EQ(fault_of([&] { slot.begin_use(stream(0)); }), Fault::kBug);
  const std::vector<std::byte> short_by_one(kNumBytes - 1);
  EXPECT_EQ(fault_of([&] { slot.write(short_by_one, piece(0), stream(0)); }), Fault::kBug);
}

}  // namespace
}  // namespace takt
