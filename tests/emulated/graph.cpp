// Graphs: see graph.h.
//
// An executable graph has a stream of its own for each stream that was captured. A launch queues the nodes on these, with a
// wait for every edge between two of them: within one, capture has put an edge from each node to the next anyway. So nodes
// run in any order that the edges allow, at the same time if they can, under the schedule that the test has chosen; under
// the priority schedule each launch draws its order anew. A collective that waits for its peers blocks what comes
// after it and nothing else, as on a device.
#include "tests/emulated/graph.h"

#include <string>

#include "tests/emulated/counters.h"
#include "tests/emulated/device.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/stream.h"

using namespace takt::emulated;

struct CUgraph_st {
  GraphBody body;
};

struct CUgraphExec_st {
  GraphBody body;
  std::vector<std::shared_ptr<Stream>> lanes;
  Ticket end;  // of the last launch: launches of one executable graph follow each other
};

namespace {

cudaError_t instantiate(cudaGraphExec_t* executable, const GraphBody& body) {
  auto* made = new CUgraphExec_st{.body = body, .lanes = {}, .end = nullptr};
  for (std::size_t lane = 0; lane < body.lane_devices.size(); ++lane)
    made->lanes.push_back(
        Stream::make(device(body.lane_devices[lane]), "of a graph, as stream " + std::to_string(lane)));
  for (const SkippedWait& wait : body.skipped_waits)
    tell_adversaries(*made->lanes[wait.later], *made->lanes[wait.sooner]);
  ++live_counters().num_graphs;
  *executable = made;
  return cudaSuccess;
}

// Queues all nodes, in an order that respects the edges, so that each one's tickets are there when it is its turn.
void launch_nodes(CUgraphExec_st& graph, const Ticket& begin) {
  for (const auto& lane : graph.lanes) lane->issue_wait(begin);
  std::vector<Ticket> tickets;
  for (const GraphNode& node : graph.body.nodes) {
    for (const Dependency& before : node.after)
      if (before.orders && graph.body.nodes[before.node].lane != node.lane)
        graph.lanes[node.lane]->issue_wait(tickets[before.node]);
    tickets.push_back(graph.lanes[node.lane]->issue(node.operation));
  }
}

cudaError_t launch(CUgraphExec_st& graph, Stream& stream) {
  ++live_counters().num_graph_launches;
  if (graph.end) stream.issue_wait(graph.end);
  launch_nodes(graph, stream.issue_mark());
  for (const auto& lane : graph.lanes) stream.issue_wait(lane->issue_mark());
  graph.end = stream.issue_mark();
  return cudaSuccess;
}

}  // namespace

namespace takt::emulated {

cudaGraph_t make_graph(GraphBody body) {
  ++live_counters().num_graphs;
  return new CUgraph_st{std::move(body)};
}

}  // namespace takt::emulated

extern "C" {

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  TAKT_EMULATED_BEGIN("cudaGraphInstantiate");
  return remember(instantiate(executable, graph->body));
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph,
                                          unsigned long long) {
  TAKT_EMULATED_BEGIN("cudaGraphInstantiateWithFlags");
  return remember(instantiate(executable, graph->body));
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  TAKT_EMULATED_BEGIN("cudaGraphUpload");
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  TAKT_EMULATED_BEGIN("cudaGraphLaunch");
  Stream& on = stream_of(stream);
  if (is_capturing(stream)) {
    diagnose("cudaGraphLaunch: in a captured stream; the emulated device knows no child graphs");
    return remember(cudaErrorStreamCaptureUnsupported);
  }
  return remember(launch(*executable, on));
}

// nodes: nullptr to ask how many there are. Their handles are numbers that nothing else takes.
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* num_nodes) {
  TAKT_EMULATED_BEGIN("cudaGraphGetNodes");
  const std::size_t num = graph->body.nodes.size();
  if (nodes != nullptr)
    for (std::size_t i = 0; i < *num_nodes; ++i)
      nodes[i] = i < num ? reinterpret_cast<cudaGraphNode_t>(i + 1) : nullptr;
  *num_nodes = nodes == nullptr ? num : std::min(num, *num_nodes);
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  --live_counters().num_graphs;
  return cudaSuccess;
}

// What was launched still runs.
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  for (const auto& lane : executable->lanes) lane->close();
  delete executable;
  --live_counters().num_graphs;
  return cudaSuccess;
}

}  // extern "C"
