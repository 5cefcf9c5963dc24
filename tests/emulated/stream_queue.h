// How a double puts work on a stream.
//
// A stream is a queue and a worker thread. Every operation of every double goes through enqueue(), never around it: it
// is what orders, schedules, checks and captures. While the stream is being captured the operation becomes a node of
// the graph and runs at each launch of it, any number of times.
//
//   cublasStatus_t cublasLtMatmul(...) {
//     if (const auto fault = injected_fault("cublasLtMatmul")) return cublasStatus_t(*fault);
//     if (!check_range(a, bytes_a, device_of(stream), "cublasLtMatmul: a")) return CUBLAS_STATUS_INVALID_VALUE;
//     ...
//     return to_cublas(enqueue(stream, {.name = "cublasLtMatmul",
//                                       .run = [=] { multiply(...); return cudaSuccess; },
//                                       .reads = {{a, bytes_a}, {b, bytes_b}}, .writes = {{d, bytes_d}}}));
//   }
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace takt::emulated {

// Memory that an operation touches.
struct Range {
  const void* pointer = nullptr;
  std::size_t num_bytes = 0;
};

// One occurrence of an operation in a stream: not yet run, or finished.
class Completion;
using Ticket = std::shared_ptr<Completion>;

// The work, called on the stream's worker thread. An error breaks the device: every later call on it returns it, as
// after a fault on a real device. Captures by value, since it may run after the call's arguments are gone, and repeatedly.
using Run = std::function<cudaError_t()>;

struct Operation {
  std::string name;  // for diagnoses: the call's name
  Run run = {};      // the same work at every occurrence, or see prepare

  // Checked to be alive when the operation runs, and announced to ThreadSanitizer, unless the work is instrumented itself:
  // compiled with the sanitizer, which then sees its accesses without help.
  std::vector<Range> reads = {};
  std::vector<Range> writes = {};
  bool instrumented = false;

  // Instead of `run`, for work that has state per occurrence (the place in a communicator's sequence). Called by the host
  // thread each time that the operation enters a queue: once by enqueue(), or, captured, once by every launch of the
  // graph, in the order of capture. The ticket is that of this occurrence. Never called under a lock.
  std::function<Run(const Ticket&)> prepare = {};
};

// Queues `operation`, or captures it. Fails with the sticky error of a broken device; with the error that a real device
// gives for a stream that another thread's capture forbids. Aborts on the default stream, which Takt never uses.
cudaError_t enqueue(cudaStream_t stream, Operation operation);

// ---- Schedules: who waits for whom. ----

// Someone cannot go on before this occurrence has run: under the lazy and priority schedules this is what makes it run.
// A collective demands the tickets of its peers' operations when it starts to wait for them; the ticket of a peer that
// has not been issued yet is demanded by the peer's own `prepare`. Never blocks. Any thread.
void demand(const Ticket& ticket);

// True when the occurrence has run.
bool finished(const Ticket& ticket);

// Lives while an operation on a worker thread sleeps until peers arrive. Without it the priority schedule would hold back
// the device's other streams behind the sleeper, one of which may be what the peers wait for.
// `word`, where there is one, is `seen` until they are there: who has not woken up yet does not sleep any more.
class WaitForPeers {
 public:
  explicit WaitForPeers(const std::atomic<uint32_t>* word = nullptr, uint32_t seen = 0);
  ~WaitForPeers();
  WaitForPeers(const WaitForPeers&) = delete;
  WaitForPeers& operator=(const WaitForPeers&) = delete;
};

// ---- Facts about streams and devices. ----

// The device that the calling thread has set (cudaSetDevice); on a worker thread, the stream's.
int current_device();

// The device that `stream` was created on. Aborts on the default stream.
int device_of(cudaStream_t stream);

// True while operations on `stream` become nodes of a graph.
bool is_capturing(cudaStream_t stream);

// The number of emulated devices.
int num_devices();

}  // namespace takt::emulated
