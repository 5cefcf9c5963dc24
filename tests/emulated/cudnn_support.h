// What the cuDNN double checks before it makes a plan.
#pragma once

#include <string>
#include <vector>

#include "tests/emulated/cudnn_operation.h"

namespace takt::emulated {

// Why the attributes do not fit together; empty: they do. Aborts at operations that the double does not know.
std::string finalize_problem(const CudnnDescriptorContent& descriptor);

std::vector<CudnnOperation> operations_of(const CudnnDescriptorContent& graph);

// Why the real library has no engine for the graph on the emulated model of GPU; empty: it has one.
std::string engine_problem(const CudnnDescriptorContent& graph);

}  // namespace takt::emulated
