// OpDef: everything Takt knows about one operation, as one record.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "collectives/communicator.h"
#include "core/base/error.h"
#include "core/base/tensor.h"
#include "core/device/rank_device.h"
#include "core/graph/attrs.h"
#include "core/mesh/placement.h"

namespace takt {

class CudaContext;  // core/device/cuda/context.h
class Graph;
struct Node;

struct ValueId {
  int index = -1;
  bool operator==(const ValueId&) const = default;
};
struct NodeId {
  int index = -1;
  bool operator==(const NodeId&) const = default;
};

// A node as its op sees it: constants and tensor descriptions, global or local. `outputs` is empty in infer.
struct OpArgs {
  const std::string& name;
  const Attrs& attrs;
  std::vector<TensorDesc> inputs;
  std::vector<TensorDesc> outputs;

  const TensorDesc& input(std::size_t i) const {
    TAKT_ASSERT(i < inputs.size(), "node '", name, "' has no input ", i);
    return inputs[i];
  }
  const TensorDesc& output(std::size_t i) const {
    TAKT_ASSERT(i < outputs.size(), "node '", name, "' has no output ", i);
    return outputs[i];
  }
};

// Arithmetic and memory traffic of one execution on one rank.
struct Cost {
  double flops = 0;
  double bytes_read = 0;
  double bytes_written = 0;
};

// One way an op can be placed along one mesh axis: what it needs and what then comes out.
struct OpPlacement {
  std::vector<AxisPlacement> inputs;
  std::vector<AxisPlacement> outputs;
};

// The usual placement rule, as data. Along one mesh axis an op can take everything replicated; everything sharded along
// any one tensor axis that is not whole, where inputs without the axis are replicated and outputs without it partial
// sums; and partial sums in the inputs in which it is linear, all others replicated and all outputs partial sums.
struct PlacementRule {
  static constexpr int kAll = -1;
  AxisNames whole = {};                           // axes that are never sharded,
  std::optional<std::size_t> whole_last_of = {};  // and the last axis of this input,
  std::string whole_attr = {};                    // and the one that this attribute names
  std::vector<std::vector<int>> linear_in =
      {};  // each: inputs that may be partial sums together; {kAll}: all of them
};

// The piece of a sharded axis that this rank holds, for ops that count along the axis (look-ups, masks).
struct AxisRange {
  Axis axis;
  std::int64_t offset = 0;     // global index of the first local element
  std::int64_t num_valid = 0;  // leading local elements that exist globally; the others are padding
  std::int64_t num_global = 0;
};

// A node as a device prepares its kernel on one rank.
struct KernelNode : OpArgs {
  std::vector<AxisRange> ranges = {};  // the sharded axes of the inputs and outputs
  Communicator* group = nullptr;       // ops with needs_group: the ranks along the node's mesh axes
  int num_threads = 1;                 // of the CPU
  CudaContext* cuda = nullptr;         // the rank's GPU; null on the CPU

  // This rank's piece of an axis; the whole axis if it is not sharded.
  AxisRange range(const TensorDesc& desc, const Axis& axis) const;
};

// Where a node's tensors lie; fixed when the memory plan is made. Scratch is aligned to 64 bytes.
struct KernelArgs {
  std::span<void* const> inputs;
  std::span<void* const> outputs;
  void* scratch = nullptr;
  StreamHandle stream =
      nullptr;  // on which a GPU kernel is queued; null on the CPU, where it is done on return

  template <class T>
  const T* input(std::size_t i) const {
    return static_cast<const T*>(inputs[i]);
  }
  template <class T>
  T* output(std::size_t i) const {
    return static_cast<T*>(outputs[i]);
  }
};
using Kernel = std::function<void(const KernelArgs&)>;

// How one kind of device runs an op.
struct DeviceKernel {
  // Prepares the kernel of one node: primitives are created here, once. Null: this build has no kernel for the op.
  Kernel (*prepare)(const KernelNode&) = nullptr;
  // Bytes of scratch the kernel wants in every run, on any rank; null: none.
  std::size_t (*scratch_bytes)(const KernelNode&) = nullptr;
  bool bf16 = false;  // takes bf16 tensors, besides f32 and i32
};

// A tensor of the reference interpreter: row-major doubles, whatever the dtype.
struct Array {
  Dims dims;
  std::vector<double> data;
};

// Gradients as the graph sees them. `output_grads[i]` is empty where nothing flows back.
struct GradArgs {
  Graph& graph;
  const Node& node;
  std::span<const std::optional<ValueId>> output_grads;
};

// A small use of the op for the contract tests: builds a graph whose last node is the op. Inputs are random.
struct Sample {
  std::string name = {};
  std::function<void(Graph&)> build = {};
  std::int64_t index_bound = 1;  // i32 inputs are drawn from [0, index_bound)
};

struct OpDef {
  std::string name = {};
  // Shape rule: checks the inputs (kConfig) and says what comes out.
  std::vector<TensorDesc> (*infer)(const OpArgs&) = nullptr;
  // Appends the nodes that compute the gradients of the inputs, one entry an input. Null: not differentiable.
  std::vector<std::optional<ValueId>> (*grad)(const GradArgs&) = nullptr;
  // Arithmetic an element of the largest tensor, for ops without a cost function: see cost_of in core/ops/op_cost.h.
  double flops_per_element = 0;
  Cost (*cost)(const OpArgs&) = nullptr;
  // All placements along one mesh axis that need no communication inside the op: by the rule, or, where that cannot
  // say it, by a function. Ask signatures_of in core/ops/placement_rules.h.
  PlacementRule placement = {};
  std::vector<OpPlacement> (*placements)(const OpArgs&) = nullptr;
  // Inputs that are f32 whatever the others are: tables, biases, statistics.
  std::vector<std::size_t> f32_inputs = {};
  // Plain loops in double precision, written to be read. Outputs have their dims and zeros. Null:
  // collectives.
  void (*reference)(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) = nullptr;
  DeviceKernel cpu = {};
  DeviceKernel cuda = {};
  // Output i lives in the storage of input j and overwrites it: {i, j}.
  std::vector<std::pair<int, int>> in_place = {};
  // Output 0 may live in the storage of input 0 if nobody needs that input any more.
  bool may_overwrite_input = false;
  // The op adds to a buffer over micro-batches: a partial sum stays partial, to be reduced once a step.
  bool defers_reduction = false;
  bool needs_group = false;   // the kernel asks its group who else there is
  bool communicates = false;  // and moves data between its ranks
  bool side_by_side = false;  // and where a node moves several tensors, they lie one after the other
  // `done`: output i is input i, in its storage, and complete: a started collective has written it.
  bool awaits = false;
  std::vector<Sample> samples = {};
};

// How a kind of device runs the op.
inline const DeviceKernel& kernel_of(const OpDef& op, DeviceKind device) {
  return device == DeviceKind::kCuda ? op.cuda : op.cpu;
}

}  // namespace takt
