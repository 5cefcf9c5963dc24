// In a capture the event and the wait become an edge of the graph, and a stream that takes joins the capture.
#include "core/device/cuda/hand_over.h"

namespace takt {

void HandOver::give(const CudaStream& from) {
  event_.record(from);
  from_ = from.get();
}

void HandOver::take(const CudaStream& to) {
  TAKT_ASSERT(is_given(), "hand-over of '", value_, "': taken before it was given");
  if (to.get() == from_) return;
  TAKT_CUDA(cudaStreamWaitEvent(to.get(), event_.get(), 0));
  ++num_waits_;
}

void HandOver::wait_on_host() const {
  TAKT_ASSERT(is_given(), "hand-over of '", value_, "': waited for before it was given");
  event_.synchronize();
}

}  // namespace takt
