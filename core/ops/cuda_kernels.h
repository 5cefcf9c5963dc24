// The CUDA kernels of the ops, one function an op, each in the <op>.cu beside <op>.cpp. TAKT_CUDA_KERNEL(op) is what a
// record takes for .cuda: empty where Takt is built without CUDA, and the executor reports the op as not compiled in.
#pragma once

#include "core/graph/op.h"
#include "core/ops/op_list.h"

#ifdef TAKT_HAVE_CUDA
#define TAKT_CUDA_KERNEL(op) ::takt::cuda::op()
#else
#define TAKT_CUDA_KERNEL(op) ::takt::DeviceKernel()
#endif

namespace takt::cuda {

#define TAKT_DECLARE_KERNEL(op) DeviceKernel op();
TAKT_OPS(TAKT_DECLARE_KERNEL)
#undef TAKT_DECLARE_KERNEL

}  // namespace takt::cuda
