// Captures are of the thread: other ranks may be threads of this process, and their calls are none of ours.
#include "core/device/cuda/graph.h"

namespace takt {
namespace {

using OwnedGraph = Owned<cudaGraph_t, destroy_graph>;

// Between begin and end of a capture. Ends it also if an error leaves the recording, or the stream could never be used
// again.
class Capture {
 public:
  explicit Capture(const CudaStream& origin) : origin_(origin) {
    TAKT_CUDA(cudaStreamBeginCapture(origin.get(), cudaStreamCaptureModeThreadLocal));
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  ~Capture() {
    if (is_open_) abandon();
  }

  OwnedGraph end() {
    cudaGraph_t graph = nullptr;
    is_open_ = false;
    const cudaError_t code = cudaStreamEndCapture(origin_.get(), &graph);
    TAKT_ASSERT(code != cudaErrorStreamCaptureUnjoined,
                "cuda graph: a stream took from the captured one and did not hand back");
    require_cuda(code, "cudaStreamEndCapture(stream)");
    return OwnedGraph(graph);
  }

 private:
  // An error is on its way already, and this one's code would say only that the capture failed.
  void abandon() noexcept {
    cudaGraph_t graph = nullptr;
    if (cudaStreamEndCapture(origin_.get(), &graph) == cudaSuccess) OwnedGraph discarded(graph);
  }

  const CudaStream& origin_;
  bool is_open_ = true;
};

}  // namespace

void destroy_graph(cudaGraph_t graph) noexcept {
  cudaGraphDestroy(graph);
}

void destroy_graph_exec(cudaGraphExec_t graph) noexcept {
  cudaGraphExecDestroy(graph);
}

CudaGraph::CudaGraph(const CudaStream& origin, const std::function<void()>& queue) {
  Capture capture(origin);
  queue();
  const OwnedGraph graph = capture.end();
  TAKT_CUDA(cudaGraphGetNodes(graph.get(), nullptr, &num_nodes_));
  cudaGraphExec_t exec = nullptr;
  TAKT_CUDA(cudaGraphInstantiate(&exec, graph.get(), 0));
  exec_ = Owned<cudaGraphExec_t, destroy_graph_exec>(exec);
}

void CudaGraph::launch(const CudaStream& stream) const {
  TAKT_CUDA(cudaGraphLaunch(exec_.get(), stream.get()));
}

}  // namespace takt
