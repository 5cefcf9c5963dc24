// Graph: values and the nodes that compute them, in execution order. Every value is written once, except that
// the storage of persistent values is overwritten by in-place ops.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/graph/op.h"

namespace takt {

enum class Role {
  kIntermediate,  // computed by a node, lives inside one program
  kInput,         // written by the host before each run
  kParameter,     // persists; saved in checkpoints and exports
  kState,         // persists; optimizer state, saved in checkpoints
  kAccumulator,   // persists within a step: zero at its start, consumed by the update program
};
bool is_persistent(Role role);
std::string_view name_of(Role role);

// How a parameter starts, and how it is seen from outside.
struct ParameterInfo {
  enum class Init { kNormal, kZeros, kOnes };
  Init init = Init::kNormal;
  double std = 0.02;                            // kNormal
  bool decays = true;                           // weight decay applies
  std::vector<std::int64_t> export_shape = {};  // the Hugging Face shape; empty: one extent a dimension
};

struct Value {
  std::string name = {};
  TensorDesc desc = {};  // local once placed
  Role role = Role::kIntermediate;
  NodeId producer = {};      // -1: input or persistent
  Dims global_dims = {};     // as built, for one device
  Placement placement = {};  // empty until parallelize
  std::optional<ParameterInfo> parameter = {};
};

struct Node {
  const OpDef* op = nullptr;
  std::string name = {};
  std::vector<ValueId> inputs = {};
  std::vector<ValueId> outputs = {};
  Attrs attrs = {};
  std::string mesh_axis = {};  // collective ops: the axis whose group takes part
};

class Graph {
 public:
  ValueId input(const std::string& name, TensorDesc desc);
  // Asking again for the same parameter gives the same value (tied weights). Throws kBug if the descriptions
  // differ.
  ValueId parameter(const std::string& name, TensorDesc desc, ParameterInfo info);
  ValueId persistent(const std::string& name, TensorDesc desc, Role role);

  // Appends a node; its output shapes come from the op's rule. `name` also names the outputs.
  std::vector<ValueId> append(const OpDef& op, std::vector<ValueId> inputs, Attrs attrs,
                              const std::string& name);
  // The same for ops with one output.
  ValueId append_one(const OpDef& op, std::vector<ValueId> inputs, Attrs attrs, const std::string& name);
  // Adds a value that no node computes, as described (passes that rebuild a graph).
  ValueId add_outside(const Value& value);
  // Appends a node whose outputs are already described (parallelize and the passes after it).
  std::vector<ValueId> append_placed(Node node, std::span<const Value> outputs);

  void mark_output(ValueId value) { outputs_.push_back(value); }
  const std::vector<ValueId>& outputs() const { return outputs_; }

  const Value& value(ValueId id) const;
  Value& value(ValueId id);
  const Node& node(NodeId id) const;
  const std::vector<Value>& values() const { return values_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  std::optional<ValueId> find(std::string_view name) const;
  OpArgs args_of(const Node& node) const;

  // A copy without the nodes whose results nobody needs. Values that are no longer used go too, inputs and
  // persistent ones excepted.
  Graph pruned() const;

 private:
  ValueId add_value(Value value);
  std::vector<Value> values_;
  std::vector<Node> nodes_;
  std::vector<ValueId> outputs_;
};

// One line a node: "%12 f32[batch=4, embed=8] S(batch),R = matmul(%3, %7) {…}  # layers.0.q".
std::string to_string(const Graph& graph);

// Checks what must hold between passes: inputs come before uses, names are unique, shapes are what the ops'
// rules say, in-place nodes are the last readers of what they overwrite. Throws kBug naming the pass and the
// node.
void verify(const Graph& graph, std::string_view after_pass);

}  // namespace takt
