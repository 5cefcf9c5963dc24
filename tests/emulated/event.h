// What a cudaEvent_t points to: the last occurrence that was recorded, or a place in a graph that is being captured.
#pragma once

#include <memory>

#include "tests/emulated/capture.h"
#include "tests/emulated/stream_queue.h"
#include "tests/emulated/sync.h"

struct CUevent_st {
  // The occurrence recorded last; null when there is none, or it was recorded in a captured stream.
  takt::emulated::Ticket last() {
    const takt::emulated::Lock lock(mutex);
    return recorded;
  }

  int device = 0;
  bool has_time = true;
  takt::emulated::Mutex mutex = {};
  takt::emulated::Ticket recorded = {};
  takt::emulated::CapturedPlace captured = {};
};
