// A stream: a queue of operations and the thread that runs them, in order.
#pragma once

#include <pthread.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "tests/emulated/device.h"
#include "tests/emulated/stream_queue.h"
#include "tests/emulated/sync.h"

namespace takt::emulated {

// One occurrence of an operation. An event is the completion of the mark that cudaEventRecord put into the stream.
class Completion {
 public:
  explicit Completion(std::shared_ptr<Stream> stream_) : stream(std::move(stream_)) {}

  bool finished() const { return done.load() != 0; }

  const std::shared_ptr<Stream> stream;
  std::atomic<uint32_t> done{0};
  Edge edge;           // what the stream did before, for who waited
  double time_ms = 0;  // when it finished

  // Guarded by the mutex of the stream's device.
  uint64_t sequence = 0;  // its number in the stream, from 1; 0: not queued yet
  bool wanted = false;    // demanded before it was queued
};

// What stands in a queue: an operation, or a wait for one of another stream, or a mark, which does nothing.
struct Entry {
  std::shared_ptr<const Operation> operation;
  Run run;
  Ticket wait_for;
  Ticket ticket;
  Edge issued;
};

class Stream : public std::enable_shared_from_this<Stream> {
 public:
  // Starts the worker. `name` is for diagnoses.
  static std::shared_ptr<Stream> make(Device& device, std::string name);

  // Each queues something and returns its ticket.
  Ticket issue(std::shared_ptr<const Operation> operation);
  Ticket issue_wait(Ticket ticket);
  Ticket issue_mark();

  // Nothing more comes: the worker ends when the queue is empty. Returns then, or when it takes too long, for an operation
  // that waits for peers must not hang who gives the stream up.
  void close();

  Device& device;
  const std::string name;

  // ---- Guarded by device.mutex; the schedule reads them. ----
  std::deque<std::unique_ptr<Entry>> queue;
  uint64_t num_queued = 0;
  uint64_t num_taken = 0;
  uint64_t num_wanted = 0;   // the first so many entries have someone who waits for them
  double head_since_ms = 0;  // when the head of the queue became it
  uint64_t index = 0;        // on its device
  uint64_t priority = 0;     // kPriority: the highest that can run does
  int rank = 0;              // kPriority: before all priorities; see tell_adversaries
  bool running = false;      // an entry was taken and is not finished
  bool waits_for_peers = false;
  const std::atomic<uint32_t>* peers_word = nullptr;  // which is that until they are there
  uint32_t peers_seen = 0;
  Ticket blocked_on;  // the entry taken is a wait for this
  bool closing = false;
  Edge finished_edge;  // all that has run, for who asks whether it is done

 private:
  Stream(Device& device_, std::string name_) : device(device_), name(std::move(name_)) {}
  static void* worker(void* stream);
  void start_worker();
  Ticket push(std::unique_ptr<Entry> entry);
  std::unique_ptr<Entry> take();
  void run(Entry& entry);
  void run_operation(Entry& entry);
  void wait_for(const Ticket& ticket);
  void finish(Entry& entry);

  std::atomic<uint32_t> has_ended_{0};
};

// ---- The schedule: schedule.cpp. All under device.mutex. ----

// May the stream's worker take the head of its queue now? If not, `wait_us` is when to ask again at the latest, -1 if only
// a change can make it so.
bool may_take(Stream& stream, long& wait_us);

// A wait of `later` for `sooner` was skipped. The priority schedule lets `later` run as soon as it can, and `sooner` when
// nothing else can, so that what the wait was for shows in the first run.
void tell_adversaries(Stream& later, Stream& sooner);

// The host has queued something; it asks whether something is done. Who asks again, and queues nothing, waits.
void note_issue(Device& device);
void note_question(Device& device);

// ---- Waiting. ----

// The calling thread of the host sleeps until the occurrence has run.
void wait_on_host(const Ticket& ticket);

// All that is in the queues of the device so far has run.
void wait_for_device(Device& device);

// The stream that runs on the calling thread; nullptr on threads of the host.
Stream*& worker_stream();

// Asks all workers of the process to end; for its exit.
void stop_all_workers();

}  // namespace takt::emulated

// What a cudaStream_t points to.
namespace takt::emulated {
struct StreamCapture;
}
struct CUstream_st {
  std::shared_ptr<takt::emulated::Stream> stream;
  int priority = 0;
  takt::emulated::Mutex mutex;
  std::shared_ptr<takt::emulated::StreamCapture> capture;  // while it is captured; guarded by `mutex`
};

namespace takt::emulated {

// The stream of a handle. Aborts on the default streams, which Takt never uses.
Stream& stream_of(cudaStream_t handle);

}  // namespace takt::emulated
