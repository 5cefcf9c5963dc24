// The CUDA kernels of the ops, one function an op, each in the <op>.cu beside <op>.cpp. An op's record takes its kernel by
//
//   .cuda = TAKT_CUDA_KERNEL(norm)
//
// which is empty where Takt is built without CUDA: the executor reports such an op as not compiled in.
#pragma once

#include "core/graph/op.h"

#ifdef TAKT_HAVE_CUDA
#define TAKT_CUDA_KERNEL(op) ::takt::cuda::op()
#else
#define TAKT_CUDA_KERNEL(op) ::takt::DeviceKernel()
#endif

namespace takt::cuda {

DeviceKernel accumulate();
DeviceKernel activation();
DeviceKernel activation_grad();
DeviceKernel add();
DeviceKernel assign();
DeviceKernel attention();
DeviceKernel attention_grad();
DeviceKernel broadcast();
DeviceKernel cast();
DeviceKernel clip_factor();
DeviceKernel combine();
DeviceKernel cross_entropy();
DeviceKernel cross_entropy_grad();
DeviceKernel dispatch();
DeviceKernel embedding();
DeviceKernel embedding_grad();
DeviceKernel fill();
DeviceKernel gated();
DeviceKernel gated_grad();
DeviceKernel matmul();
DeviceKernel norm();
DeviceKernel norm_grad();
DeviceKernel pick();
DeviceKernel reduce();
DeviceKernel reshape();
DeviceKernel rotary();
DeviceKernel rotary_table();
DeviceKernel route();
DeviceKernel route_grad();
DeviceKernel router_loss();
DeviceKernel router_loss_grad();
DeviceKernel scale();
DeviceKernel slot_dot();
DeviceKernel softmax();
DeviceKernel softmax_grad();
DeviceKernel squared_error();
DeviceKernel squared_error_grad();
DeviceKernel stack();
DeviceKernel sum_exp();
DeviceKernel sum_squares();
DeviceKernel unstack();

// Conversions between placements. The first four move data between ranks.
DeviceKernel all_gather();
DeviceKernel all_reduce();
DeviceKernel all_to_all();
DeviceKernel reduce_scatter();
DeviceKernel done();
DeviceKernel keep_on_first();
DeviceKernel local_slice();

}  // namespace takt::cuda
