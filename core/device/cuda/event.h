// CudaEvent: a point in a stream that the host can ask for or wait for. Streams that wait for each other use HandOver.
#pragma once

#include "core/device/cuda/stream.h"

namespace takt {

// Whether an event takes the time, which costs the stream a little.
enum class EventTiming { kOff, kOn };

class CudaEvent : public CudaHandle<cudaEvent_t, cudaEventDestroy> {
 public:
  explicit CudaEvent(EventTiming timing = EventTiming::kOff);

  // Moves the event behind all that `stream` has queued.
  void record(const CudaStream& stream) const;
  // In a capture: each launch of the graph records the event anew, where it stands in the graph.
  void record_at_launch(const CudaStream& stream) const;
  // Waits on the host; returns at once if the event was never recorded. Throws what the work met.
  void synchronize() const;
  bool is_done() const;
  // Time between two recorded events that are done and take the time.
  double seconds_since(const CudaEvent& earlier) const;
};

}  // namespace takt
