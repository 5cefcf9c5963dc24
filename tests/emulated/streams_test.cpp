// Streams and events: what CUDA promises holds under every schedule, and a program that relies on more is found out.
#include <atomic>
#include <thread>

#include "tests/emulated/emulated_test.h"
#include "tests/emulated/kernels_for_tests.h"

namespace takt::emulated::test {
namespace {

constexpr unsigned kNum = 256;

// A computing and a communicating stream, three buffers, one of them of ones, and a pinned one.
class TwoStreams {
 public:
  TwoStreams() : ones(std::vector<float>(kNum, 1)), a(kNum), b(kNum), host(kNum) {}

  void clear(const DeviceBuffer<float>& buffer, cudaStream_t stream) {
    EXPECT_CUDA(cudaMemsetAsync(buffer.get(), 0, buffer.num_bytes(), stream));
  }
  void work(cudaStream_t stream) {  // takes a while, changes nothing
    for (int i = 0; i < 4; ++i) EXPECT_CUDA(axpy(0, ones.get(), b.get(), kNum, stream));
  }
  void add_one(const DeviceBuffer<float>& buffer, cudaStream_t stream) {
    EXPECT_CUDA(axpy(1, ones.get(), buffer.get(), kNum, stream));
  }
  void to_host(const DeviceBuffer<float>& buffer, cudaStream_t stream) {
    EXPECT_CUDA(cudaMemcpyAsync(host.get(), buffer.get(), host.num_bytes(), cudaMemcpyDeviceToHost, stream));
  }
  void wait(cudaStream_t stream, cudaEvent_t event) { EXPECT_CUDA(cudaStreamWaitEvent(stream, event, 0)); }
  void wait(cudaStream_t stream) { EXPECT_CUDA(cudaStreamSynchronize(stream)); }
  void order(cudaStream_t first, cudaStream_t then, const EventOwner& event) {
    EXPECT_CUDA(cudaEventRecord(event, first));
    EXPECT_CUDA(cudaStreamWaitEvent(then, event, 0));
  }
  void finish() {
    EXPECT_CUDA(cudaStreamSynchronize(compute));
    EXPECT_CUDA(cudaStreamSynchronize(comm));
  }

  const StreamOwner compute, comm;
  const EventOwner done, read;
  const DeviceBuffer<float> ones, a, b;
  PinnedBuffer<float> host;
};

// Each is a program that is right `with_wait`, and returns whether its result was.
using Program = bool (*)(TwoStreams&, bool with_wait);

// Compute writes a one; comm waits, if it does, and reads it.
bool comm_reads_one(TwoStreams& s, bool with_wait) {
  s.work(s.compute);
  s.add_one(s.a, s.compute);
  EXPECT_CUDA(cudaEventRecord(s.done, s.compute));
  if (with_wait) s.wait(s.comm, s.done);
  s.to_host(s.a, s.comm);
  s.wait(s.comm);
  const bool right = s.host[7] == 1;
  s.finish();
  return right;
}

bool read_after_write(TwoStreams& s, bool with_wait) {
  s.clear(s.a, s.compute);
  s.clear(s.b, s.compute);
  s.wait(s.compute);
  return comm_reads_one(s, with_wait);
}

bool write_after_read(TwoStreams& s, bool with_wait) {
  s.clear(s.a, s.compute);
  s.add_one(s.a, s.compute);
  s.order(s.compute, s.comm, s.done);
  s.work(s.comm);
  s.to_host(s.a, s.comm);
  EXPECT_CUDA(cudaEventRecord(s.read, s.comm));
  if (with_wait) s.wait(s.compute, s.read);
  s.add_one(s.a, s.compute);
  s.finish();
  return s.host[7] == 1;
}

bool host_reads_result(TwoStreams& s, bool with_wait) {
  s.host[7] = 0;
  s.clear(s.a, s.compute);
  s.add_one(s.a, s.compute);
  s.to_host(s.a, s.compute);
  if (with_wait) s.wait(s.compute);
  const bool right = s.host[7] == 1;
  s.finish();
  return right;
}

bool host_reuses_staging(TwoStreams& s, bool with_wait) {
  for (unsigned i = 0; i < kNum; ++i) s.host[i] = 1;
  EXPECT_CUDA(
      cudaMemcpyAsync(s.a.get(), s.host.get(), s.host.num_bytes(), cudaMemcpyHostToDevice, s.compute));
  if (with_wait) s.wait(s.compute);
  for (unsigned i = 0; i < kNum; ++i) s.host[i] = 2;
  s.finish();
  return s.a.values()[7] == 1;
}

bool wait_before_record(TwoStreams& s, bool with_wait) {
  s.clear(s.a, s.compute);
  EXPECT_CUDA(cudaEventRecord(s.done, s.compute));
  s.wait(s.compute);
  if (!with_wait) s.wait(s.comm, s.done);  // for what was recorded before
  return comm_reads_one(s, with_wait);
}

struct Named {
  const char* name;
  Program program;
};
const Named kPrograms[] = {{"read_after_write", read_after_write},
                           {"write_after_read", write_after_read},
                           {"host_reads_result", host_reads_result},
                           {"host_reuses_staging", host_reuses_staging},
                           {"wait_before_record", wait_before_record}};

class Ordering : public EmulatedTest, public testing::WithParamInterface<Named> {};

TEST_P(Ordering, IsRightWithItsWait) {
  TwoStreams streams;
  for (const Schedule schedule : {Schedule::kEager, Schedule::kLazy, Schedule::kPriority})
    for (uint64_t seed = 1; seed <= 4; ++seed) {
      set_schedule(schedule, seed);
      EXPECT_TRUE(GetParam().program(streams, true)) << "schedule " << int(schedule) << " seed " << seed;
    }
}

TEST_P(Ordering, LazyFindsTheMissingWait) {
  set_schedule(Schedule::kLazy);
  TwoStreams streams;
  for (int trial = 0; trial < 10; ++trial) EXPECT_FALSE(GetParam().program(streams, false));
}

TEST_P(Ordering, PriorityFindsTheMissingWait) {
  TwoStreams streams;
  int num_found = 0;
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    set_schedule(Schedule::kPriority, seed);
    for (int trial = 0; trial < 4; ++trial) num_found += !GetParam().program(streams, false);
  }
  EXPECT_GT(num_found, 0);
}

INSTANTIATE_TEST_SUITE_P(Programs, Ordering, testing::ValuesIn(kPrograms),
                         [](const auto& named) { return std::string(named.param.name); });

class Streams : public EmulatedTest {};

// The mutation hook breaks a right program as forgetting the wait does.
TEST_F(Streams, ASkippedWaitOrdersNothing) {
  set_schedule(Schedule::kLazy);
  TwoStreams streams;
  const uint64_t before = num_waits();
  EXPECT_TRUE(write_after_read(streams, true));
  EXPECT_EQ(num_waits() - before, 2u);
  skip_wait(1);
  EXPECT_FALSE(write_after_read(streams, true));
  EXPECT_TRUE(write_after_read(streams, true)) << "one wait is skipped once";
  skip_wait(0);
  EXPECT_FALSE(read_after_write(streams, true));
  skip_wait(0);
  skip_no_wait();
  EXPECT_TRUE(read_after_write(streams, true));
}

TEST_F(Streams, FreedWhileAnotherStreamReads) {
  set_schedule(Schedule::kLazy);
  TwoStreams s;
  float* temporary = nullptr;
  ASSERT_CUDA(cudaMallocAsync(reinterpret_cast<void**>(&temporary), kNum * sizeof(float), s.compute));
  ASSERT_CUDA(cudaMemsetAsync(temporary, 0, kNum * sizeof(float), s.compute));
  s.order(s.compute, s.comm, s.done);
  s.clear(s.a, s.comm);
  ASSERT_CUDA(axpy(1, temporary, s.a.get(), kNum, s.comm));
  ASSERT_CUDA(cudaFreeAsync(temporary, s.compute));  // compute did not wait for comm
  ASSERT_CUDA(cudaStreamSynchronize(s.compute));
  EXPECT_EQ(cudaStreamSynchronize(s.comm), cudaErrorIllegalAddress);
  expect_diagnosis("which was freed");
}

TEST_F(Streams, OperationsOfAStreamRunInOrder) {
  const StreamOwner stream;
  static int sequence;
  sequence = 0;
  for (int i = 0; i < 20; ++i)
    ASSERT_CUDA(cudaLaunchHostFunc(
        stream, [](void*) { ++sequence; }, nullptr));
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(sequence, 20);
}

TEST_F(Streams, LazyRunsNothingThatNobodyWaitsFor) {
  Settings changed = settings();
  changed.schedule = Schedule::kLazy;
  changed.hold_ms = 1'000'000;
  configure(changed);
  const StreamOwner first, second;
  const EventOwner event;
  static std::atomic<int> num_run;
  num_run = 0;
  const auto count = [](void*) { ++num_run; };
  ASSERT_CUDA(cudaLaunchHostFunc(first, count, nullptr));
  ASSERT_CUDA(cudaEventRecord(event, first));
  ASSERT_CUDA(cudaLaunchHostFunc(first, count, nullptr));
  ASSERT_CUDA(cudaLaunchHostFunc(second, count, nullptr));
  ASSERT_CUDA(cudaEventSynchronize(event));
  EXPECT_EQ(num_run, 1);
  ASSERT_CUDA(cudaDeviceSynchronize());
  EXPECT_EQ(num_run, 3);
}

TEST_F(Streams, QueriesSayNotReadyAndBringItForward) {
  const StreamOwner stream;
  const EventOwner event;
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess) << "never recorded";
  ASSERT_CUDA(cudaLaunchHostFunc(
      stream, [](void*) {}, nullptr));
  ASSERT_CUDA(cudaEventRecord(event, stream));
  while (cudaEventQuery(event) == cudaErrorNotReady) std::this_thread::yield();
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
  while (cudaStreamQuery(stream) == cudaErrorNotReady) std::this_thread::yield();
  EXPECT_EQ(cudaStreamQuery(stream), cudaSuccess);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "not ready is no error";
}

TEST_F(Streams, EventsMeasureTime) {
  const StreamOwner stream;
  const EventOwner begin(cudaEventDefault), end(cudaEventDefault), without_time;
  float time_ms = -1;
  EXPECT_EQ(cudaEventElapsedTime(&time_ms, begin, end), cudaErrorInvalidResourceHandle) << "never recorded";
  ASSERT_CUDA(cudaEventRecord(begin, stream));
  ASSERT_CUDA(cudaEventRecord(end, stream));
  ASSERT_CUDA(cudaEventSynchronize(end));
  ASSERT_CUDA(cudaEventElapsedTime(&time_ms, begin, end));
  EXPECT_GE(time_ms, 0);
  ASSERT_CUDA(cudaEventRecord(without_time, stream));
  ASSERT_CUDA(cudaEventSynchronize(without_time));
  EXPECT_EQ(cudaEventElapsedTime(&time_ms, begin, without_time), cudaErrorInvalidResourceHandle);
}

TEST_F(Streams, EventsOrderStreamsOfDifferentDevices) {
  const StreamOwner here;
  const EventOwner event;
  PinnedBuffer<int> value(1);
  value[0] = 0;
  ASSERT_CUDA(cudaLaunchHostFunc(
      here, [](void* v) { *static_cast<int*>(v) = 1; }, value.get()));
  ASSERT_CUDA(cudaEventRecord(event, here));
  ASSERT_CUDA(cudaSetDevice(1));
  {
    const StreamOwner there;
    ASSERT_CUDA(cudaStreamWaitEvent(there, event, 0));
    ASSERT_CUDA(cudaLaunchHostFunc(
        there, [](void* v) { *static_cast<int*>(v) *= 10; }, value.get()));
    ASSERT_CUDA(cudaStreamSynchronize(there));
    EXPECT_EQ(value[0], 10);
    EXPECT_EQ(cudaEventRecord(event, there), cudaErrorInvalidResourceHandle)
        << "the event is the other device's";
    expect_diagnosis("an event of device 0 in a stream of device 1");
  }
  ASSERT_CUDA(cudaSetDevice(0));
}

TEST_F(Streams, HostFunctionsMayNotCallTheRuntime) {
  const StreamOwner stream;
  static cudaError_t inside;
  ASSERT_CUDA(cudaLaunchHostFunc(
      stream, [](void*) { inside = cudaDeviceSynchronize(); }, nullptr));
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(inside, cudaErrorNotPermitted);
  expect_diagnosis("cudaDeviceSynchronize: called in a host function");
}

TEST_F(Streams, DestroyedStreamsFinishWhatTheyHave) {
  static std::atomic<int> num_run;
  num_run = 0;
  {
    const StreamOwner stream;
    for (int i = 0; i < 5; ++i)
      ASSERT_CUDA(cudaLaunchHostFunc(
          stream, [](void*) { ++num_run; }, nullptr));
  }
  EXPECT_EQ(num_run, 5);
}

using StreamsDeathTest = Streams;

TEST_F(StreamsDeathTest, TheDefaultStreamIsForbidden) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(cudaStreamSynchronize(nullptr), "default stream");
  EXPECT_DEATH(cudaMemcpyAsync(nullptr, nullptr, 0, cudaMemcpyDefault, cudaStreamLegacy), "default stream");
}

TEST_F(Streams, ManyRanksAreThreads) {
#if defined(TAKT_EMULATED_TSAN)
  constexpr int kNumRanks = 64;  // the sanitizer knows some 8000 fibres
#else
  constexpr int kNumRanks = 512;
#endif
  Settings changed = settings();
  changed.num_devices = kNumRanks;
  configure(changed);
  std::vector<float> results(kNumRanks);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < kNumRanks; ++rank)
    ranks.emplace_back([rank, &results] {
      EXPECT_CUDA(cudaSetDevice(rank));
      const StreamOwner stream;
      const DeviceBuffer<float> x(counting(64, float(rank))), sum(1);
      EXPECT_CUDA(sum_rows(x.get(), sum.get(), 1, 64, 64, stream));
      EXPECT_CUDA(cudaStreamSynchronize(stream));
      results[std::size_t(rank)] = sum.values()[0];
    });
  for (std::thread& rank : ranks) rank.join();
  for (std::size_t rank = 0; rank < results.size(); ++rank) EXPECT_EQ(results[rank], 64 * float(rank) + 2016);
}

}  // namespace
}  // namespace takt::emulated::test
