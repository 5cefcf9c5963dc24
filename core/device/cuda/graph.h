// CudaGraph: a program's work, recorded once and launched as one.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>

#include "core/base/owned.h"
#include "core/device/cuda/stream.h"

namespace takt {

void destroy_graph(cudaGraph_t graph) noexcept;
void destroy_graph_exec(cudaGraphExec_t graph) noexcept;

class CudaGraph {
 public:
  // Records what `queue` queues on `origin` and on streams that join it by a HandOver; nothing runs. Every stream that
  // joined must hand back to `origin` before `queue` returns. Addresses are kept, so they must stay valid. Waiting on
  // the host, allocating and synchronous copies are errors inside. An Error of `queue` ends the capture and goes on.
  CudaGraph(const CudaStream& origin, const std::function<void()>& queue);

  // Queues the whole; launches of one graph run one after the other.
  void launch(const CudaStream& stream) const;
  std::size_t num_nodes() const { return num_nodes_; }

 private:
  std::size_t num_nodes_ = 0;
  Owned<cudaGraphExec_t, destroy_graph_exec> exec_;
};

}  // namespace takt
