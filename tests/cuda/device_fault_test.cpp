// What the emulated device breaks on purpose must be seen: calls that fail, and every wait that a stream would not do.
#include <gmock/gmock.h>
#include <nccl.h>

#include <algorithm>

#include "core/device/cuda/arena.h"
#include "core/device/cuda/devices.h"
#include "core/device/cuda/graph.h"
#include "core/device/cuda/hand_over.h"
#include "core/device/cuda/transfer.h"
#include "tests/cuda/cuda_test.h"
#include "tests/cuda/error_of.h"
#include "tests/emulated/control.h"

namespace takt {
namespace {

using ::testing::HasSubstr;

class DeviceFaultTest : public CudaTest {};

TEST_F(DeviceFaultTest, LackOfMemoryIsSeenInBothKindsOfArena) {
  const CudaStream stream;
  emulated::inject("cudaMalloc", cudaErrorMemoryAllocation);
  EXPECT_EQ(error_of([&] { DeviceArena(64, ArenaKind::kPlain, stream); }).fault(), Fault::kMemory);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "the next launch would be blamed";
  const std::size_t too_much = emulated::settings().memory_bytes + 1;
  EXPECT_EQ(error_of([&] { DeviceArena(too_much, ArenaKind::kRegistrable, stream); }).fault(),
            Fault::kMemory);
  cudaGetLastError();
}

TEST_F(DeviceFaultTest, NothingLeaks) {
  const emulated::Counters before = emulated::counters();
  {
    const CudaContext context;
    const DeviceArena arena(64, ArenaKind::kPlain, context.compute_stream());
    const DeviceArena registrable(64, ArenaKind::kRegistrable, context.compute_stream());
    InputSlot slot("tokens", 64);
    const CudaGraph graph(context.compute_stream(), [&] {
      TAKT_CUDA(cudaMemsetAsync(arena.data(), 0, 64, context.compute_stream().get()));
    });
    context.synchronize();
  }
  const emulated::Counters after = emulated::counters();
  EXPECT_EQ(after.num_live_allocations, before.num_live_allocations);
  EXPECT_EQ(after.num_live_streams, before.num_live_streams);
  EXPECT_EQ(after.num_live_events, before.num_live_events);
  EXPECT_EQ(after.num_live_graphs, before.num_live_graphs);
}

TEST_F(DeviceFaultTest, GpusAreListedAndToldApart) {
  const CudaDevices devices = list_cuda_devices();
  EXPECT_EQ(devices.problem, "");
  ASSERT_EQ(static_cast<int>(devices.gpus.size()), emulated::settings().num_devices);
  EXPECT_NE(devices.gpus[0].uuid, devices.gpus[1].uuid);
  EXPECT_NE(devices.gpus[0].pci_bus, devices.gpus[1].pci_bus);
}

TEST_F(DeviceFaultTest, WithoutADriverTheReasonIsOneLine) {
  emulated::inject("cudaGetDeviceCount", cudaErrorInsufficientDriver);
  const CudaDevices devices = list_cuda_devices();
  EXPECT_TRUE(devices.gpus.empty());
  EXPECT_THAT(devices.problem, HasSubstr("driver"));
  EXPECT_EQ(std::ranges::count(devices.problem, '\n'), 0);
  emulated::inject("cudaGetDeviceCount", cudaErrorNoDevice);
  EXPECT_THAT(list_cuda_devices().problem, HasSubstr("no GPU"));
}

TEST_F(DeviceFaultTest, AStreamThatDoesNotHandBackToItsGraphIsABug) {
  const CudaContext context;
  const DeviceArena arena(64, ArenaKind::kPlain, context.stream(1));
  HandOver fork("input");
  const auto queue = [&] {
    fork.give(context.stream(0));
    fork.take(context.stream(1));
    TAKT_CUDA(cudaMemsetAsync(arena.data(), 0, 64, context.stream(1).get()));
  };
  const Error error = error_of([&] { CudaGraph graph(context.stream(0), queue); });
  EXPECT_EQ(error.fault(), Fault::kBug);
  EXPECT_THAT(error.what(), HasSubstr("did not hand back"));
  EXPECT_THAT(emulated::all_diagnoses(), HasSubstr("is not joined back"));
  emulated::reset();
}

// Inputs through two slots, a value to another stream and back: every wait that the device layer makes. True if the
// results are right.
bool pipeline_is_right() {
  constexpr std::size_t kNumBytes = 256;
  constexpr int kNumSteps = 5;
  CudaContext context;
  const DeviceArena arena(4 * kNumBytes, ArenaKind::kPlain, context.stream(0));
  context.synchronize();
  const auto piece = [&](std::size_t number) { return arena.data() + number * kNumBytes; };
  std::vector<InputSlot> slots;
  for (int slot = 0; slot < 2; ++slot) slots.emplace_back("tokens", kNumBytes);
  HandOver made("made"), used("used");
  std::vector<ReadBack> results;
  for (int step = 0; step < kNumSteps; ++step) {
    const auto slot = static_cast<std::size_t>(step % 2);
    const std::vector<std::byte> tokens(kNumBytes, std::byte(step + 1));
    slots[slot].write(tokens, piece(slot), context.copy_stream());
    slots[slot].begin_use(context.stream(0));
    if (used.is_given()) used.take(context.stream(0));
    TAKT_CUDA(
        cudaMemcpyAsync(piece(2), piece(slot), kNumBytes, cudaMemcpyDeviceToDevice, context.stream(0).get()));
    slots[slot].end_use(context.stream(0));
    made.give(context.stream(0));
    made.take(context.stream(1));
    results.emplace_back(kNumBytes).queue({piece(2), kNumBytes}, context.stream(1));
    used.give(context.stream(1));
  }
  context.synchronize();
  for (int step = 0; step < kNumSteps; ++step)
    for (const std::byte byte : results[static_cast<std::size_t>(step)].wait())
      if (byte != std::byte(step + 1)) return false;
  return true;
}

// A missing wait may go unseen in one order of the streams, never in all.
bool is_seen(std::uint64_t skipped_wait) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    emulated::reset();
    emulated::Settings settings = emulated::settings();
    settings.schedule = seed == 0 ? emulated::Schedule::kLazy : emulated::Schedule::kPriority;
    settings.seed = seed;
    settings.hold_ms = 60'000;  // or a slow machine would run what nobody has waited for
    emulated::configure(settings);
    emulated::skip_wait(skipped_wait);
    if (!pipeline_is_right()) return true;
  }
  return false;
}

TEST_F(DeviceFaultTest, EveryWaitOfThePipelineIsNeeded) {
  ASSERT_TRUE(pipeline_is_right());
  const std::uint64_t num_waits = emulated::num_waits();
  EXPECT_EQ(num_waits, 5u + 3u + 5u + 4u);  // inputs written, inputs read, made, used
  for (std::uint64_t wait = 0; wait < num_waits; ++wait) EXPECT_TRUE(is_seen(wait)) << "wait " << wait;
  emulated::reset();
}

}  // namespace
}  // namespace takt
