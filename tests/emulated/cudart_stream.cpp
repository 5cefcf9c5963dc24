// The runtime's streams and events.
#include <cuda_runtime_api.h>

#include <string>

#include "tests/emulated/capture.h"
#include "tests/emulated/counters.h"
#include "tests/emulated/device.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/event.h"
#include "tests/emulated/stream.h"

using namespace takt::emulated;

namespace {

constexpr int kGreatestPriority = -5;  // of all devices since 2013; the least is 0

cudaError_t make_stream(cudaStream_t* handle, unsigned flags, int priority) {
  if (flags != cudaStreamNonBlocking)
    forbidden("a stream that waits for the default stream: pass cudaStreamNonBlocking");
  Device& on = device(current_device());
  auto* made = new CUstream_st;
  made->stream = Stream::make(on, "of device " + std::to_string(on.index));
  made->priority = std::clamp(priority, kGreatestPriority, 0);
  ++live_counters().num_streams;
  *handle = made;
  return cudaSuccess;
}

// A wait of the host that ended: with the error that came meanwhile.
cudaError_t after_wait(int device_index) {
  return remember(broken(device_index));
}

}  // namespace

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  TAKT_EMULATED_BEGIN("cudaStreamCreateWithFlags");
  return make_stream(stream, flags, 0);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  TAKT_EMULATED_BEGIN("cudaStreamCreateWithPriority");
  return make_stream(stream, flags, priority);
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority) {
  *priority = stream->priority;
  return cudaSuccess;
}

cudaError_t cudaStreamGetDevice(cudaStream_t stream, int* device_index) {
  *device_index = device_of(stream);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = kGreatestPriority;
  return cudaSuccess;
}

// What is queued still runs.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  stream_of(stream).close();
  delete stream;
  --live_counters().num_streams;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  TAKT_EMULATED_BEGIN("cudaStreamSynchronize");
  if (const auto refused = refuse_captured(stream, "cudaStreamSynchronize")) return remember(*refused);
  ++live_counters().num_host_waits;
  Stream& waited = stream_of(stream);
  wait_on_host(waited.issue_mark());
  return after_wait(waited.device.index);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  TAKT_EMULATED_BEGIN("cudaStreamQuery");
  if (const auto refused = refuse_captured(stream, "cudaStreamQuery")) return remember(*refused);
  Stream& asked = stream_of(stream);
  {
    const Lock lock(asked.device.mutex);
    if (asked.queue.empty() && !asked.running) {
      asked.finished_edge.acquire();
      return after_wait(asked.device.index);
    }
  }
  demand(asked.issue_mark());  // someone waits for it, by asking again
  return cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize() {
  TAKT_EMULATED_BEGIN("cudaDeviceSynchronize", CallKind::kUnsafeInCapture);
  ++live_counters().num_host_waits;
  wait_for_device(device(current_device()));
  return after_wait(current_device());
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  TAKT_EMULATED_BEGIN("cudaEventCreateWithFlags");
  *event = new CUevent_st{.device = current_device(), .has_time = (flags & cudaEventDisableTiming) == 0};
  ++live_counters().num_events;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  --live_counters().num_events;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  TAKT_EMULATED_BEGIN("cudaEventRecord");
  Stream& recorded = stream_of(stream);
  if (event->device != recorded.device.index) {
    diagnose("cudaEventRecord: an event of device " + std::to_string(event->device) +
             " in a stream of device " + std::to_string(recorded.device.index));
    return remember(cudaErrorInvalidResourceHandle);
  }
  if (const auto captured = capture_record(stream, *event)) return remember(*captured);
  Ticket mark = recorded.issue_mark();
  const Lock lock(event->mutex);
  event->recorded = std::move(mark);
  event->captured = {};
  return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  if (flags == cudaEventRecordDefault) return cudaEventRecord(event, stream);
  TAKT_EMULATED_BEGIN("cudaEventRecordWithFlags");
  if (!is_capturing(stream)) return remember(cudaErrorIllegalState);
  const auto record = [event](const Ticket& occurrence) -> Run {
    const Lock lock(event->mutex);
    event->recorded = occurrence;
    event->captured = {};
    return [] { return cudaSuccess; };
  };
  return remember(enqueue(stream, {.name = "cudaEventRecordWithFlags", .prepare = record}));
}

// Waits for the occurrence that was recorded last before this call, as CUDA does; for none, there is nothing to wait for.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  TAKT_EMULATED_BEGIN("cudaStreamWaitEvent");
  if (flags != cudaEventWaitDefault)
    forbidden("cudaStreamWaitEvent: the emulated device knows no external events");
  const bool skipped = next_wait_is_skipped(device_of(stream));
  if (const auto captured = capture_wait(stream, *event, !skipped)) return remember(*captured);
  const Ticket recorded = event->last();
  if (!recorded) return cudaSuccess;
  if (skipped)
    tell_adversaries(stream_of(stream), *recorded->stream);
  else
    stream_of(stream).issue_wait(recorded);
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  TAKT_EMULATED_BEGIN("cudaEventQuery", CallKind::kUnsafeInCapture);
  if (const auto refused = refuse_captured(*event, "cudaEventQuery")) return remember(*refused);
  const Ticket recorded = event->last();
  if (!recorded) return cudaSuccess;
  if (!recorded->finished()) {
    demand(recorded);  // someone waits for it, by asking again
    return cudaErrorNotReady;
  }
  recorded->edge.acquire();
  return after_wait(event->device);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  TAKT_EMULATED_BEGIN("cudaEventSynchronize", CallKind::kUnsafeInCapture);
  if (const auto refused = refuse_captured(*event, "cudaEventSynchronize")) return remember(*refused);
  ++live_counters().num_host_waits;
  if (const Ticket recorded = event->last()) wait_on_host(recorded);
  return after_wait(event->device);
}

cudaError_t cudaEventElapsedTime(float* time_ms, cudaEvent_t begin, cudaEvent_t end) {
  TAKT_EMULATED_BEGIN("cudaEventElapsedTime");
  const Ticket first = begin->last(), last = end->last();
  if (!begin->has_time || !end->has_time || !first || !last) return remember(cudaErrorInvalidResourceHandle);
  if (!first->finished() || !last->finished()) {
    demand(first);
    demand(last);
    return cudaErrorNotReady;
  }
  *time_ms = float(last->time_ms - first->time_ms);
  return cudaSuccess;
}

}  // extern "C"
