// Graph: values and the nodes that compute them, in execution order. Every value is written once, except that the
// storage of persistent values is overwritten by in-place ops.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/string_map.h"
#include "core/graph/op.h"

namespace takt {

enum class Role {
  kIntermediate,  // computed by a node, lives inside one program
  kInput,         // written by the host before each run
  kParameter,     // persists; saved in checkpoints and exports
  kState,         // persists; optimizer state, saved in checkpoints
  kAccumulator,   // persists within a step: zero at its start, consumed by the update program
  kDerived,  // persists; computed from parameters by the refresh program, or once at the start. Never saved
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
  // Accumulators, state and derived values: the parameter whose gradient, state or copy this is. Empty for a value of
  // the whole step (the loss) or of none (a constant table).
  std::string of = {};
};

// The part of a step that a node belongs to.
enum class Phase : std::uint8_t { kForward, kBackward, kUpdate };
std::string_view name_of(Phase phase);

// Where a node stands in the model.
struct Tag {
  int block = -1;  // the layer; -1: outside of layers
  Phase phase = Phase::kForward;
  bool is_recomputed = false;  // has been computed before, and is not kept: see recompute
  bool operator==(const Tag&) const = default;
  // The same layer in the same phase?
  bool is_beside(const Tag& other) const { return block == other.block && phase == other.phase; }
};

struct Node {
  const OpDef* op = nullptr;
  std::string name = {};
  std::vector<ValueId> inputs = {};
  std::vector<ValueId> outputs = {};
  Attrs attrs = {};
  MeshAxisNames mesh_axes = {};  // ops that need a group: the axes along which its ranks differ
  Tag tag = {};
  int stream = 0;  // set by the schedule pass: 0 computes, others communicate
};

class Graph {
 public:
  ValueId input(const std::string& name, TensorDesc desc);
  // Asking again for the same parameter gives the same value (tied weights). Throws kBug if the descriptions
  // differ.
  ValueId parameter(const std::string& name, TensorDesc desc, ParameterInfo info);
  // `of`: the parameter it belongs to, see Value. Throws kBug if the name is taken.
  ValueId persistent(const std::string& name, TensorDesc desc, Role role, const std::string& of = {});

  // Nodes appended from now on carry this tag.
  void set_tag(Tag tag) { tag_ = tag; }
  Tag tag() const { return tag_; }

  // Appends a node; its output shapes come from the op's rule. `name` also names the outputs.
  std::vector<ValueId> append(const OpDef& op, std::vector<ValueId> inputs, Attrs attrs,
                              const std::string& name);
  // The same for ops with one output.
  ValueId append_one(const OpDef& op, std::vector<ValueId> inputs, Attrs attrs, const std::string& name);
  // Adds a value that no node computes, as described (passes that rebuild a graph).
  ValueId add_outside(Value value);
  // Appends a node whose outputs are already described (parallelize and the passes after it).
  std::span<const ValueId> append_placed(Node node, std::vector<Value> outputs);
  // The same in steps: appends the node without outputs; then each call adds one to the node that was appended last.
  NodeId append_placed(Node node);
  ValueId add_output(Value&& value);
  // Makes room for a graph of this size, so that growing moves nothing.
  void reserve(std::size_t num_values, std::size_t num_nodes);

  void mark_output(ValueId value) { outputs_.push_back(value); }
  const std::vector<ValueId>& outputs() const { return outputs_; }

  const Value& value(ValueId id) const;
  Value& value(ValueId id);
  const Node& node(NodeId id) const;
  Node& node(NodeId id);
  const std::vector<Value>& values() const { return values_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  // The first value of that name. Inputs and persistent values are found by an index, others by looking at all.
  std::optional<ValueId> find(std::string_view name) const;
  // The input or persistent value of that name.
  std::optional<ValueId> find_outside(std::string_view name) const;
  OpArgs args_of(const Node& node) const;

  // Gives an axis of all values another extent, in a graph that is not placed yet. Dims among the ops' constants follow;
  // where another constant depends on the extent, verify() finds it.
  void set_extent(const Axis& axis, std::int64_t extent);

  // Puts the nodes into another order: node order[i] becomes number i.
  void reorder(std::span<const int> order);
  // Who reads value v, nodes and outputs, reads now[v] instead where there is one; the node that computes now[v] does not.
  void redirect(std::span<const ValueId> now);

  // A copy without the nodes whose results nobody needs. Values that are no longer used go too, inputs and
  // persistent ones excepted.
  Graph pruned() const;

 private:
  ValueId add_value(Value&& value);
  std::vector<Value> values_;
  std::vector<Node> nodes_;
  std::vector<ValueId> outputs_;
  StringMap<int> outside_;  // inputs and persistent values by name
  Tag tag_;
};

// Tags nodes with a layer while it lives, then gives the graph its former tag back.
class BlockScope {
 public:
  BlockScope(Graph& graph, int block) : graph_(graph), before_(graph.tag()) {
    graph_.set_tag({block, before_.phase});
  }
  ~BlockScope() { graph_.set_tag(before_); }
  BlockScope(const BlockScope&) = delete;
  BlockScope& operator=(const BlockScope&) = delete;

 private:
  Graph& graph_;
  Tag before_;
};

// Who reads each value: made once, asked often.
class Users {
 public:
  explicit Users(const Graph& graph);
  // The nodes that read the value, in order, once for every time they read it.
  std::span<const NodeId> of(ValueId value) const;

 private:
  std::vector<std::size_t> first_;  // by value, into nodes_; one more at the end
  std::vector<NodeId> nodes_;
};

// One line a node: "%12 f32[batch=4, embed=8] S(batch),R = matmul(%3, %7) {…}  # layers.0.q". A started collective has
// its stream behind its mesh axes: "all_reduce<data>@1(…)".
std::string to_string(const Graph& graph);

// Checks what must hold between passes: inputs come before uses, names are unique, shapes are what the ops' rules say,
// in-place nodes are the last readers of what they overwrite. Throws kBug naming the pass and the node.
void verify(const Graph& graph, std::string_view after_pass);
// The same where it is known which nodes look alike.
class LookAlikes;
void verify(const Graph& graph, const LookAlikes& alike, std::string_view after_pass);

}  // namespace takt
