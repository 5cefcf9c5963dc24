// Group: what the calling thread has called between ncclGroupStart and ncclGroupEnd.
#pragma once

#include <nccl.h>

#include <functional>
#include <memory>
#include <vector>

#include "tests/emulated/nccl_comm.h"

namespace takt::emulated {

struct Group {
  int depth = 0;
  std::vector<Batch::Call> calls;
  std::vector<std::function<ncclResult_t()>> inits;  // of blocking communicators, which wait for each other
  std::vector<std::shared_ptr<Comm>> aborted;
};
Group& group();  // of the calling thread

// Launches the call, or keeps it until the end of the group.
ncclResult_t add_call(Batch::Call call);
ncclResult_t end_group();

}  // namespace takt::emulated
