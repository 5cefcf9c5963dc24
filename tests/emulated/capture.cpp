// Capturing streams into a graph: see capture.h.
//
// One lock for all captures: they happen once a program, and several streams share one.
#include "tests/emulated/capture.h"

#include <algorithm>
#include <string>
#include <utility>

#include "tests/emulated/diagnosis.h"
#include "tests/emulated/event.h"
#include "tests/emulated/graph.h"
#include "tests/emulated/stream.h"

namespace takt::emulated {

struct Capture {
  GraphBody body;
  cudaStream_t origin = nullptr;
  std::vector<cudaStream_t> streams;  // by lane
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  const void* thread = nullptr;  // that began it
  bool spoiled = false;
  bool ended = false;
};

namespace {

// An address that names the calling thread.
const void* this_thread() {
  static thread_local char name;
  return &name;
}

Mutex captures_mutex;
std::vector<std::shared_ptr<Capture>>& open_captures() {
  static auto& captures = *new std::vector<std::shared_ptr<Capture>>;
  return captures;
}

thread_local cudaStreamCaptureMode interaction_mode = cudaStreamCaptureModeGlobal;

cudaError_t spoil(Capture& capture, cudaError_t error, const std::string& message) {
  capture.spoiled = true;
  diagnose(message);
  return error;
}

void join(cudaStream_t stream, const std::shared_ptr<Capture>& capture, std::vector<Dependency> after) {
  stream->capture = std::make_shared<StreamCapture>(
      StreamCapture{.capture = capture, .lane = capture->streams.size(), .after = std::move(after)});
  capture->streams.push_back(stream);
  capture->body.lane_devices.push_back(device_of(stream));
}

// `after` with `more`; an edge that orders wins over one that does not.
void add_dependencies(std::vector<Dependency>& after, const std::vector<Dependency>& more) {
  for (const Dependency& added : more) {
    const auto same =
        std::find_if(after.begin(), after.end(), [&](const Dependency& d) { return d.node == added.node; });
    if (same == after.end())
      after.push_back(added);
    else
      same->orders = same->orders || added.orders;
  }
}

std::vector<Dependency> with_order(std::vector<Dependency> after, bool orders) {
  for (Dependency& dependency : after) dependency.orders = dependency.orders && orders;
  return after;
}

void note_wait(const StreamCapture& later, std::size_t sooner, bool orders) {
  if (!orders) later.capture->body.skipped_waits.push_back({later.lane, sooner});
}

// Is every node before the end of the origin stream? Skipped edges count: the program did join.
bool all_joined(const Capture& capture) {
  const std::vector<GraphNode>& nodes = capture.body.nodes;
  std::vector<bool> reached(nodes.size(), false);
  for (const Dependency& last : capture.origin->capture->after) reached[last.node] = true;
  for (std::size_t i = nodes.size(); i-- > 0;)
    if (reached[i])
      for (const Dependency& before : nodes[i].after) reached[before.node] = true;
  return std::all_of(reached.begin(), reached.end(), [](bool is_reached) { return is_reached; });
}

void close(Capture& capture) {
  capture.ended = true;
  for (cudaStream_t stream : capture.streams) stream->capture = nullptr;
  std::erase_if(open_captures(), [&](const auto& open) { return open.get() == &capture; });
}

cudaError_t begin_capture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  stream_of(stream);
  const Lock lock(captures_mutex);
  if (stream->capture) return cudaErrorIllegalState;
  auto capture = std::make_shared<Capture>();
  capture->origin = stream;
  capture->mode = mode;
  capture->thread = this_thread();
  join(stream, capture, {});
  open_captures().push_back(std::move(capture));
  return cudaSuccess;
}

cudaError_t end_capture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  const Lock lock(captures_mutex);
  if (!stream->capture || stream->capture->capture->origin != stream) return cudaErrorIllegalState;
  const std::shared_ptr<Capture> capture = stream->capture->capture;
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != this_thread())
    return cudaErrorStreamCaptureWrongThread;
  const bool joined = all_joined(*capture);
  close(*capture);
  if (capture->spoiled) return cudaErrorStreamCaptureInvalidated;
  if (!joined) {
    diagnose(
        "cudaStreamEndCapture: a stream that joined the capture is not joined back: record an event in it "
        "and let "
        "the first stream wait for that");
    return cudaErrorStreamCaptureUnjoined;
  }
  *graph = make_graph(std::move(capture->body));
  return cudaSuccess;
}

}  // namespace

bool is_capturing(cudaStream_t stream) {
  stream_of(stream);
  const Lock lock(captures_mutex);
  return stream->capture != nullptr;
}

std::optional<cudaError_t> capture_operation(cudaStream_t stream,
                                             std::shared_ptr<const Operation> operation) {
  const Lock lock(captures_mutex);
  if (!stream->capture) return std::nullopt;
  Capture& capture = *stream->capture->capture;
  if (capture.spoiled) return cudaErrorStreamCaptureInvalidated;
  StreamCapture& place = *stream->capture;
  capture.body.nodes.push_back(
      {.operation = std::move(operation), .after = std::move(place.after), .lane = place.lane});
  place.after = {{capture.body.nodes.size() - 1, true}};
  return cudaSuccess;
}

std::optional<cudaError_t> capture_record(cudaStream_t stream, CUevent_st& event) {
  const Lock lock(captures_mutex);
  if (!stream->capture) return std::nullopt;
  const Lock event_lock(event.mutex);
  event.recorded = nullptr;
  event.captured = {stream->capture->capture, stream->capture->lane, stream->capture->after};
  return cudaSuccess;
}

std::optional<cudaError_t> capture_wait(cudaStream_t stream, CUevent_st& event, bool orders) {
  stream_of(stream);
  const Lock lock(captures_mutex);
  const Lock event_lock(event.mutex);
  const CapturedPlace& place = event.captured;
  if (!stream->capture && !place.capture) return std::nullopt;
  if (!place.capture) {
    if (!event.recorded) return cudaSuccess;
    return spoil(
        *stream->capture->capture, cudaErrorStreamCaptureIsolation,
        "cudaStreamWaitEvent: a captured stream waits for an event that was recorded outside of the capture");
  }
  if (place.capture->ended) {
    diagnose("cudaStreamWaitEvent: the event was last recorded in a capture that has ended");
    return cudaErrorCapturedEvent;
  }
  if (!stream->capture) {
    join(stream, place.capture, with_order(place.after, orders));
    note_wait(*stream->capture, place.lane, orders);
    return cudaSuccess;
  }
  if (stream->capture->capture != place.capture)
    return spoil(*place.capture, cudaErrorStreamCaptureMerge,
                 "cudaStreamWaitEvent: an event of another capture");
  add_dependencies(stream->capture->after, with_order(place.after, orders));
  note_wait(*stream->capture, place.lane, orders);
  return cudaSuccess;
}

std::optional<cudaError_t> refuse_captured(cudaStream_t stream, const char* call) {
  stream_of(stream);
  const Lock lock(captures_mutex);
  if (!stream->capture) return std::nullopt;
  return spoil(*stream->capture->capture, cudaErrorStreamCaptureUnsupported,
               std::string(call) + ": the stream is being captured");
}

std::optional<cudaError_t> refuse_captured(CUevent_st& event, const char* call) {
  const Lock lock(captures_mutex);
  const Lock event_lock(event.mutex);
  if (!event.captured.capture) return std::nullopt;
  if (event.captured.capture->ended) return cudaErrorCapturedEvent;
  return spoil(*event.captured.capture, cudaErrorCapturedEvent,
               std::string(call) + ": the event was recorded in a stream that is being captured");
}

cudaError_t refuse_in_capture(const char* call) {
  if (interaction_mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  const Lock lock(captures_mutex);
  for (const auto& capture : open_captures()) {
    const bool own = capture->thread == this_thread();
    const bool forbids =
        own ? capture->mode != cudaStreamCaptureModeRelaxed
            : capture->mode == cudaStreamCaptureModeGlobal && interaction_mode == cudaStreamCaptureModeGlobal;
    if (forbids)
      return spoil(*capture, cudaErrorStreamCaptureUnsupported,
                   std::string(call) + ": called while a stream is captured" +
                       (own ? "" : " by another thread") + " in a mode that forbids it");
  }
  return cudaSuccess;
}

}  // namespace takt::emulated

using namespace takt::emulated;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  TAKT_EMULATED_BEGIN("cudaStreamBeginCapture");
  return remember(begin_capture(stream, mode));
}

// Ends it on a broken device too, or what the process captures later would come into it.
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const cudaError_t refused = begin_call("cudaStreamEndCapture");
  const cudaError_t ended = end_capture(stream, graph);
  if (refused == cudaSuccess) return remember(ended);
  if (ended == cudaSuccess) cudaGraphDestroy(std::exchange(*graph, nullptr));
  return remember(refused);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  TAKT_EMULATED_BEGIN("cudaStreamIsCapturing");
  stream_of(stream);
  const Lock lock(captures_mutex);
  *status = !stream->capture                    ? cudaStreamCaptureStatusNone
            : stream->capture->capture->spoiled ? cudaStreamCaptureStatusInvalidated
                                                : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, interaction_mode);
  return cudaSuccess;
}

}  // extern "C"
