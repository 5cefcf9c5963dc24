// Captured graphs: they hold what the streams did, replay it as often as one likes, in any order that the edges allow.
#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "tests/emulated/emulated_test.h"
#include "tests/emulated/kernels_for_tests.h"
#include "tests/emulated/stream_queue.h"

namespace takt::emulated::test {
namespace {

constexpr unsigned kNum = 128;

class GraphOwner {
 public:
  // Of what is being captured in `stream`.
  explicit GraphOwner(cudaStream_t stream) {
    EXPECT_CUDA(cudaStreamEndCapture(stream, &graph_));
    EXPECT_CUDA(cudaGraphInstantiate(&executable_, graph_, 0));
  }
  ~GraphOwner() {
    cudaGraphExecDestroy(executable_);
    cudaGraphDestroy(graph_);
  }
  GraphOwner(const GraphOwner&) = delete;
  GraphOwner& operator=(const GraphOwner&) = delete;

  void launch(cudaStream_t stream) const { EXPECT_CUDA(cudaGraphLaunch(executable_, stream)); }
  std::size_t num_nodes() const {
    std::size_t num = 0;
    EXPECT_CUDA(cudaGraphGetNodes(graph_, nullptr, &num));
    return num;
  }

 private:
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
};

void begin(cudaStream_t stream) {
  EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
}

// `then` goes on after what is in `first` so far.
void order(cudaStream_t first, cudaStream_t then, cudaEvent_t event) {
  EXPECT_CUDA(cudaEventRecord(event, first));
  EXPECT_CUDA(cudaStreamWaitEvent(then, event, 0));
}

class Graphs : public EmulatedTest {};

TEST_F(Graphs, CaptureRunsNothingAndLaunchesRunAll) {
  const StreamOwner stream;
  const DeviceBuffer<float> ones(std::vector<float>(kNum, 1)), sum(std::vector<float>(kNum, 0));
  begin(stream);
  EXPECT_TRUE(is_capturing(stream));
  EXPECT_CUDA(axpy(1, ones.get(), sum.get(), kNum, stream));
  EXPECT_CUDA(axpy(10, ones.get(), sum.get(), kNum, stream));
  const GraphOwner graph(stream);
  EXPECT_FALSE(is_capturing(stream));
  EXPECT_EQ(graph.num_nodes(), 2u);
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(sum.values()[5], 0);
  for (int i = 0; i < 3; ++i) graph.launch(stream);
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(sum.values()[5], 33);
}

// a, then b and c side by side on two streams, then d.
TEST_F(Graphs, ForksAndJoinsOrderNodes) {
  const StreamOwner compute, comm;
  const EventOwner fork, join;
  const DeviceBuffer<float> ones(std::vector<float>(kNum, 1)), a(kNum), b(kNum), c(kNum), d(kNum);
  begin(compute);
  EXPECT_CUDA(cudaMemsetAsync(a.get(), 0, a.num_bytes(), compute));
  EXPECT_CUDA(axpy(1, ones.get(), a.get(), kNum, compute));
  order(compute, comm, fork);
  EXPECT_CUDA(cudaMemcpyAsync(b.get(), a.get(), a.num_bytes(), cudaMemcpyDeviceToDevice, comm));
  EXPECT_CUDA(cudaMemcpyAsync(c.get(), a.get(), a.num_bytes(), cudaMemcpyDeviceToDevice, compute));
  EXPECT_CUDA(axpy(1, ones.get(), c.get(), kNum, compute));
  order(comm, compute, join);
  EXPECT_CUDA(cudaMemcpyAsync(d.get(), b.get(), b.num_bytes(), cudaMemcpyDeviceToDevice, compute));
  EXPECT_CUDA(axpy(1, c.get(), d.get(), kNum, compute));
  const GraphOwner graph(compute);
  for (const Schedule schedule : {Schedule::kEager, Schedule::kLazy, Schedule::kPriority})
    for (uint64_t seed = 1; seed <= 4; ++seed) {
      set_schedule(schedule, seed);
      graph.launch(compute);
      ASSERT_CUDA(cudaStreamSynchronize(compute));
      EXPECT_EQ(d.values()[9], 3);
    }
}

// Two branches without an edge between them: under the priority schedule some launch runs one first, some the other.
TEST_F(Graphs, ReplayInAllOrdersThatTheEdgesAllow) {
  const StreamOwner first, second;
  const EventOwner fork, join;
  static std::atomic<int> who_came_first;
  const auto come = [](void* who) {
    int nobody = 0;
    who_came_first.compare_exchange_strong(nobody, who == nullptr ? 1 : 2);
  };
  begin(first);
  order(first, second, fork);
  EXPECT_CUDA(cudaLaunchHostFunc(first, come, nullptr));
  EXPECT_CUDA(cudaLaunchHostFunc(second, come, &who_came_first));
  order(second, first, join);
  const GraphOwner graph(first);
  set_schedule(Schedule::kPriority, 5);
  std::set<int> seen;
  for (int launch = 0; launch < 20; ++launch) {
    who_came_first = 0;
    graph.launch(first);
    ASSERT_CUDA(cudaStreamSynchronize(first));
    seen.insert(who_came_first);
  }
  EXPECT_EQ(seen, (std::set<int>{1, 2}));
}

TEST_F(Graphs, LaunchesOfOneGraphFollowEachOther) {
  set_schedule(Schedule::kLazy);
  const StreamOwner here, there;
  const DeviceBuffer<float> ones(std::vector<float>(kNum, 1)), sum(std::vector<float>(kNum, 0));
  begin(here);
  EXPECT_CUDA(axpy(1, ones.get(), sum.get(), kNum, here));
  const GraphOwner graph(here);
  graph.launch(here);
  graph.launch(there);
  ASSERT_CUDA(cudaStreamSynchronize(there));
  EXPECT_EQ(sum.values()[0], 2);
}

// A launch comes after what its stream had before, and before what comes then.
TEST_F(Graphs, AreOperationsOfTheirStream) {
  set_schedule(Schedule::kLazy);
  const StreamOwner stream;
  const DeviceBuffer<float> ones(std::vector<float>(kNum, 1)), sum(kNum), copy(kNum);
  begin(stream);
  EXPECT_CUDA(axpy(1, ones.get(), sum.get(), kNum, stream));
  const GraphOwner graph(stream);
  ASSERT_CUDA(cudaMemsetAsync(sum.get(), 0, sum.num_bytes(), stream));
  graph.launch(stream);
  ASSERT_CUDA(cudaMemcpyAsync(copy.get(), sum.get(), sum.num_bytes(), cudaMemcpyDeviceToDevice, stream));
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(copy.values()[0], 1);
}

// The mutation hook: an edge that is not there is found by replaying.
TEST_F(Graphs, ASkippedWaitIsAMissingEdge) {
  set_schedule(Schedule::kLazy);
  const StreamOwner compute, comm;
  const EventOwner fork, join;
  const DeviceBuffer<float> ones(std::vector<float>(kNum, 1)), a(kNum), b(kNum), c(kNum);
  const auto capture = [&] {
    begin(compute);
    EXPECT_CUDA(cudaMemsetAsync(b.get(), 0, b.num_bytes(), compute));
    order(compute, comm, fork);
    EXPECT_CUDA(axpy(1, ones.get(), b.get(), kNum, comm));
    order(comm, compute, join);
    EXPECT_CUDA(cudaMemcpyAsync(c.get(), b.get(), b.num_bytes(), cudaMemcpyDeviceToDevice, compute));
  };
  const auto result = [&] {
    const GraphOwner graph(compute);
    EXPECT_EQ(graph.num_nodes(), 3u) << "skipping an edge loses no node";
    graph.launch(compute);
    EXPECT_CUDA(cudaStreamSynchronize(compute));
    return c.values()[0];
  };
  capture();
  EXPECT_EQ(result(), 1);
  skip_wait(1);
  capture();
  EXPECT_EQ(result(), 0);
}

TEST_F(Graphs, PrepareIsCalledForEachLaunch) {
  const StreamOwner stream;
  static std::vector<int> occurrences;
  static int num_prepared;
  occurrences.clear();
  num_prepared = 0;
  const auto prepare = [](const Ticket&) -> emulated::Run {
    return [occurrence = num_prepared++] {
      occurrences.push_back(occurrence);
      return cudaSuccess;
    };
  };
  begin(stream);
  EXPECT_CUDA(enqueue(stream, {.name = "collective", .prepare = prepare}));
  const GraphOwner graph(stream);
  EXPECT_EQ(num_prepared, 0);
  graph.launch(stream);
  graph.launch(stream);
  EXPECT_EQ(num_prepared, 2);
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(occurrences, (std::vector<int>{0, 1}));
}

TEST_F(Graphs, ABranchThatIsNotJoinedIsAnError) {
  const StreamOwner first, second;
  const EventOwner fork;
  begin(first);
  order(first, second, fork);
  EXPECT_CUDA(cudaLaunchHostFunc(
      second, [](void*) {}, nullptr));
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(first, &graph), cudaErrorStreamCaptureUnjoined);
  EXPECT_EQ(graph, nullptr);
  EXPECT_FALSE(is_capturing(second));
  expect_diagnosis("not joined back");
}

TEST_F(Graphs, WaitingSpoilsACapture) {
  const StreamOwner stream;
  begin(stream);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaLaunchHostFunc(
                stream, [](void*) {}, nullptr),
            cudaErrorStreamCaptureInvalidated);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  expect_diagnosis("cudaStreamSynchronize: the stream is being captured");
}

TEST_F(Graphs, MemoryCallsSpoilACaptureOfTheirThread) {
  const StreamOwner stream;
  begin(stream);
  std::thread([] {
    void* pointer = nullptr;
    EXPECT_CUDA(cudaMalloc(&pointer, 4)) << "another thread's, in thread-local mode";
    EXPECT_CUDA(cudaFree(pointer));
  }).join();
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, 4), cudaErrorStreamCaptureUnsupported);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  expect_diagnosis("cudaMalloc: called while a stream is captured in a mode");
}

TEST_F(Graphs, EventsOfOutsideMustNotOrderACapture) {
  const StreamOwner stream, outside;
  const EventOwner event;
  ASSERT_CUDA(cudaEventRecord(event, outside));
  begin(stream);
  EXPECT_EQ(cudaStreamWaitEvent(stream, event, 0), cudaErrorStreamCaptureIsolation);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  expect_diagnosis("recorded outside of the capture");
}

TEST_F(Graphs, EventsOfACaptureOrderNothingOutside) {
  const StreamOwner stream, outside;
  const EventOwner event;
  begin(stream);
  EXPECT_CUDA(cudaLaunchHostFunc(
      stream, [](void*) {}, nullptr));
  EXPECT_CUDA(cudaEventRecord(event, stream));
  EXPECT_EQ(cudaEventQuery(event), cudaErrorStreamCaptureUnsupported);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(cudaStreamWaitEvent(outside, event, 0), cudaErrorCapturedEvent);
  EXPECT_EQ(cudaEventSynchronize(event), cudaErrorCapturedEvent);
  forget();
}

TEST_F(Graphs, MemoryFreedBeforeALaunchIsFound) {
  const StreamOwner stream;
  float* buffer = nullptr;
  ASSERT_CUDA(cudaMalloc(reinterpret_cast<void**>(&buffer), 64));
  begin(stream);
  EXPECT_CUDA(cudaMemsetAsync(buffer, 0, 64, stream));
  const GraphOwner graph(stream);
  ASSERT_CUDA(cudaFree(buffer));
  graph.launch(stream);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
  expect_diagnosis("cudaMemsetAsync: writes memory that was freed");
}

// Two graphs whose branches meet each other, as those of two ranks do in collectives: no branch holds up the other.
TEST_F(Graphs, BranchesThatWaitForPeersDoNotBlockOthers) {
  static std::atomic<int> arrived[2];
  const auto meet = [](int where) -> emulated::Run {
    return [where] {
      ++arrived[where];
      const WaitForPeers waiting;
      while (arrived[where] % 2 != 0) std::this_thread::yield();
      return cudaSuccess;
    };
  };
  arrived[0] = arrived[1] = 0;
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 2; ++rank)
    ranks.emplace_back([&, rank] {
      EXPECT_CUDA(cudaSetDevice(rank));
      const StreamOwner first, second;
      const EventOwner fork, join;
      begin(first);
      order(first, second, fork);
      EXPECT_CUDA(enqueue(first, {.name = "meet", .run = meet(rank)}));
      EXPECT_CUDA(enqueue(second, {.name = "meet", .run = meet(1 - rank)}));
      order(second, first, join);
      const GraphOwner graph(first);
      graph.launch(first);
      EXPECT_CUDA(cudaStreamSynchronize(first));
    });
  for (std::thread& rank : ranks) rank.join();
}

}  // namespace
}  // namespace takt::emulated::test
