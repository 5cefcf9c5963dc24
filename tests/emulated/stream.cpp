// A stream: see stream.h.
#include "tests/emulated/stream.h"

#include <algorithm>

#include "tests/emulated/allocations.h"
#include "tests/emulated/block.h"
#include "tests/emulated/capture.h"
#include "tests/emulated/counters.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/fault_injection.h"

namespace takt::emulated {
namespace {

// Workers also hold the static shared memory of all kernels, as thread-locals. Untouched pages cost nothing.
constexpr std::size_t kWorkerStackBytes = 4 << 20;
constexpr long kCloseTimeoutUs = 2'000'000;

struct StopAtExit {
  ~StopAtExit() { stop_all_workers(); }
};

// Memory that was freed before the operation ran, in words; empty when all is well.
std::string freed_range(const Operation& operation) {
  for (const auto* ranges : {&operation.reads, &operation.writes})
    for (const Range& range : *ranges) {
      const auto allocation = range.num_bytes > 0 ? find_allocation(range.pointer) : std::nullopt;
      if (allocation && allocation->freed)
        return operation.name + (ranges == &operation.reads ? ": reads" : ": writes") +
               " memory that was freed (" + std::to_string(range.num_bytes) + " bytes in a block of " +
               std::to_string(allocation->num_bytes) + ")";
    }
  return {};
}

void announce(const Operation& operation) {
  if (operation.instrumented) return;
  for (const Range& range : operation.reads) announce_read(range.pointer, range.num_bytes);
  for (const Range& range : operation.writes)
    announce_write(const_cast<void*>(range.pointer), range.num_bytes);
}

}  // namespace

Stream*& worker_stream() {
  constinit thread_local Stream* stream = nullptr;
  return stream;
}

std::shared_ptr<Stream> Stream::make(Device& device, std::string name) {
  static StopAtExit stop_at_exit;
  std::shared_ptr<Stream> stream(new Stream(device, std::move(name)));
  {
    const Lock lock(device.mutex);
    stream->index = uint64_t(device.num_streams_made++);
    device.streams.push_back(stream.get());
  }
  stream->start_worker();
  return stream;
}

// Detached: joining it would order what it did before who closes the stream, which no device promises.
void Stream::start_worker() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kWorkerStackBytes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  auto* self = new std::shared_ptr<Stream>(shared_from_this());
  pthread_t thread{};
  if (pthread_create(&thread, &attributes, &worker, self) != 0)
    forbidden("no thread for stream " + name + ": too many streams, or threads of the process");
  pthread_attr_destroy(&attributes);
}

void* Stream::worker(void* opaque) {
  const std::unique_ptr<std::shared_ptr<Stream>> owner(static_cast<std::shared_ptr<Stream>*>(opaque));
  Stream& self = **owner;
  worker_stream() = &self;
  set_current_device(self.device.index);
  while (const auto entry = self.take()) {
    self.run(*entry);
    self.finish(*entry);
  }
  {
    const Lock lock(self.device.mutex);
    std::erase(self.device.streams, &self);
  }
  self.has_ended_ = 1;
  futex_wake(self.has_ended_);
  return nullptr;
}

Ticket Stream::issue(std::shared_ptr<const Operation> operation) {
  auto entry = std::make_unique<Entry>();
  entry->ticket = std::make_shared<Completion>(shared_from_this());
  entry->run = operation->prepare ? operation->prepare(entry->ticket) : operation->run;
  entry->operation = std::move(operation);
  return push(std::move(entry));
}

Ticket Stream::issue_wait(Ticket ticket) {
  auto entry = std::make_unique<Entry>();
  entry->ticket = std::make_shared<Completion>(shared_from_this());
  entry->wait_for = std::move(ticket);
  return push(std::move(entry));
}

Ticket Stream::issue_mark() {
  auto entry = std::make_unique<Entry>();
  entry->ticket = std::make_shared<Completion>(shared_from_this());
  return push(std::move(entry));
}

Ticket Stream::push(std::unique_ptr<Entry> entry) {
  Ticket ticket = entry->ticket;
  entry->issued.release();
  {
    const Lock lock(device.mutex);
    note_issue(device);
    ticket->sequence = ++num_queued;
    if (ticket->wanted) num_wanted = num_queued;
    if (queue.empty()) head_since_ms = now_ms();
    queue.push_back(std::move(entry));
  }
  device.changed.advance();
  return ticket;
}

std::unique_ptr<Entry> Stream::take() {
  for (;;) {
    const uint32_t seen = device.changed.now();
    long wait_us = -1;
    {
      const Lock lock(device.mutex);
      if (queue.empty() && closing) return nullptr;
      if (!queue.empty() && may_take(*this, wait_us)) {
        std::unique_ptr<Entry> entry = std::move(queue.front());
        queue.pop_front();
        ++num_taken;
        running = true;
        blocked_on = entry->wait_for;
        head_since_ms = now_ms();
        return entry;
      }
    }
    device.changed.wait(seen, wait_us);
  }
}

void Stream::run(Entry& entry) {
  entry.issued.acquire();
  if (entry.wait_for) wait_for(entry.wait_for);
  if (entry.run && broken(device.index) == cudaSuccess) run_operation(entry);
}

void Stream::run_operation(Entry& entry) {
  const Operation& operation = *entry.operation;
  count_operation();
  if (const auto fault = injected_fault(operation.name + ".run"))
    return break_device(device.index, cudaError_t(*fault), operation.name + ": injected fault");
  if (const std::string problem = freed_range(operation); !problem.empty())
    return break_device(device.index, cudaErrorIllegalAddress, problem);
  announce(operation);
  cudaError_t error = cudaSuccess;
  try {
    error = entry.run();
  } catch (const DeviceFault& fault) {
    return break_device(device.index, cudaErrorLaunchFailure, operation.name + ": " + fault.message);
  }
  if (error != cudaSuccess)
    break_device(device.index, error, operation.name + ": failed with " + cudaGetErrorName(error));
}

void Stream::wait_for(const Ticket& ticket) {
  if (!ticket->finished()) {
    device.changed.advance();  // lower streams of the priority schedule may go on meanwhile
    demand(ticket);
    while (!ticket->finished()) futex_wait(ticket->done, 0);
  }
  ticket->edge.acquire();
}

void Stream::finish(Entry& entry) {
  entry.ticket->time_ms = now_ms();
  entry.ticket->edge.release();
  finished_edge.release();
  {
    const Lock lock(device.mutex);
    running = false;
    blocked_on = nullptr;
    entry.ticket->done = 1;  // under the lock, so that the schedule sees both or neither
  }
  futex_wake(entry.ticket->done);
  device.changed.advance();
}

void Stream::close() {
  {
    const Lock lock(device.mutex);
    closing = true;
  }
  device.changed.advance();
  if (has_ended_ == 0) futex_wait(has_ended_, 0, kCloseTimeoutUs);
}

void stop_all_workers() {
  std::vector<std::shared_ptr<Stream>> streams;
  for (Device* device : used_devices()) {
    const Lock lock(device->mutex);
    for (Stream* stream : device->streams)
      if (auto alive = stream->weak_from_this().lock()) streams.push_back(std::move(alive));
  }
  for (const auto& stream : streams) {
    const Lock lock(stream->device.mutex);
    stream->closing = true;
    stream->queue.clear();  // nobody will see what they do
  }
  for (const auto& stream : streams) stream->close();
}

Stream& stream_of(cudaStream_t handle) {
  if (handle == nullptr || handle == cudaStreamLegacy || handle == cudaStreamPerThread)
    forbidden("work on a default stream: pass a stream made with cudaStreamNonBlocking");
  return *handle->stream;
}

int device_of(cudaStream_t stream) {
  return stream_of(stream).device.index;
}

cudaError_t enqueue(cudaStream_t handle, Operation operation) {
  Stream& stream = stream_of(handle);
  if (const cudaError_t error = broken(stream.device.index); error != cudaSuccess) return error;
  auto shared = std::make_shared<const Operation>(std::move(operation));
  if (const auto captured = capture_operation(handle, shared)) return *captured;
  stream.issue(std::move(shared));
  return cudaSuccess;
}

}  // namespace takt::emulated
