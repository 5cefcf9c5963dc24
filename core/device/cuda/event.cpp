// A blocking wait would sleep for longer than a step's small results take, so the host spins as CUDA does by default.
#include "core/device/cuda/event.h"

namespace takt {
namespace {

cudaEvent_t create_event(EventTiming timing) {
  cudaEvent_t event = nullptr;
  TAKT_CUDA(cudaEventCreateWithFlags(&event,
                                     timing == EventTiming::kOn ? cudaEventDefault : cudaEventDisableTiming));
  return event;
}

}  // namespace

CudaEvent::CudaEvent(EventTiming timing) : CudaHandle(create_event(timing)) {}

void CudaEvent::record(const CudaStream& stream) const {
  TAKT_CUDA(cudaEventRecord(get(), stream.get()));
}

void CudaEvent::record_at_launch(const CudaStream& stream) const {
  TAKT_CUDA(cudaEventRecordWithFlags(get(), stream.get(), cudaEventRecordExternal));
}

void CudaEvent::synchronize() const {
  TAKT_CUDA(cudaEventSynchronize(get()));
}

bool CudaEvent::is_done() const {
  return is_ready(cudaEventQuery(get()), "cudaEventQuery(event)");
}

double CudaEvent::seconds_since(const CudaEvent& earlier) const {
  float time_ms = 0;
  TAKT_CUDA(cudaEventElapsedTime(&time_ms, earlier.get(), get()));
  return static_cast<double>(time_ms) * 1e-3;
}

}  // namespace takt
