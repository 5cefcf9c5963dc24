// Capturing streams into a graph: which operation comes after which, as streams and events order them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "tests/emulated/stream_queue.h"

struct CUevent_st;

namespace takt::emulated {

// "After that node." One that a test skipped (skip_wait) still joins the streams, but orders nothing.
struct Dependency {
  std::size_t node = 0;
  bool orders = true;
};

struct GraphNode {
  std::shared_ptr<const Operation> operation;
  std::vector<Dependency> after;
  std::size_t lane = 0;  // the stream it was captured on
};

// By lane.
struct SkippedWait {
  std::size_t later = 0, sooner = 0;
};

// What a graph does. Nodes are in the order of capture, which respects all edges.
struct GraphBody {
  std::vector<GraphNode> nodes;
  std::vector<int> lane_devices;
  std::vector<SkippedWait> skipped_waits = {};
};

struct Capture;

// A place between nodes of a graph that is being captured: after all these.
struct CapturedPlace {
  std::shared_ptr<Capture> capture;  // null: not captured
  std::size_t lane = 0;              // of the stream that it was recorded in
  std::vector<Dependency> after;
};

// What a stream knows while it is captured.
struct StreamCapture {
  std::shared_ptr<Capture> capture;
  std::size_t lane = 0;
  std::vector<Dependency> after;  // the next node's
};

// Each of the following is nullopt when the stream is not captured (and, for a wait, the event neither), so that the
// caller goes on as usual; else the call's result.
std::optional<cudaError_t> capture_operation(cudaStream_t stream, std::shared_ptr<const Operation> operation);
std::optional<cudaError_t> capture_record(cudaStream_t stream, CUevent_st& event);
std::optional<cudaError_t> capture_wait(cudaStream_t stream, CUevent_st& event, bool orders);

// For calls that a captured stream or event forbids; they spoil the capture.
std::optional<cudaError_t> refuse_captured(cudaStream_t stream, const char* call);
std::optional<cudaError_t> refuse_captured(CUevent_st& event, const char* call);

// The error of a call that must not be made by this thread while a capture goes on that forbids it: its own, unless its
// mode is relaxed, and every other one whose mode is global.
cudaError_t refuse_in_capture(const char* call);

}  // namespace takt::emulated
