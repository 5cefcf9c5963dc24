// NvtxRange: a named stretch of host time in a profiler's time line. Costs nanoseconds where no profiler is attached.
#pragma once

#include <nvtx3/nvToolsExt.h>

namespace takt {

class NvtxRange {
 public:
  // `name` is copied by the profiler.
  explicit NvtxRange(const char* name) { nvtxRangePushA(name); }
  ~NvtxRange() { nvtxRangePop(); }
  NvtxRange(const NvtxRange&) = delete;
  NvtxRange& operator=(const NvtxRange&) = delete;
};

}  // namespace takt
