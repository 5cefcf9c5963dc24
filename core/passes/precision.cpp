// precision: one walk over the nodes. What each op computes in is the table below.
#include "core/passes/precision.h"

#include <algorithm>
#include <array>
#include <map>

#include "core/graph/rewriter.h"
#include "core/ops/builders.h"

namespace takt {
namespace {

// All floating inputs and outputs of these are bf16, but for a product's bias and what the graph wants in f32.
bool computes_in_bf16(const Node& node) {
  constexpr std::array<std::string_view, 11> names = {
      "activation", "activation_grad", "attention", "attention_grad", "combine", "dispatch",
      "gated",      "gated_grad",      "matmul",    "rotary",         "slot_dot"};
  return std::find(names.begin(), names.end(), node.op->name) != names.end();
}

bool stays_f32(const Node& node, std::size_t input) {
  const std::vector<std::size_t>& inputs = node.op->f32_inputs;
  return std::find(inputs.begin(), inputs.end(), input) != inputs.end();
}

class Caster {
 public:
  explicit Caster(const Graph& from) : from_(from), users_(from), rewriter_(from) {}

  Graph run() {
    for (const Node& node : from_.nodes()) take_over(node);
    for (const ValueId output : from_.outputs())
      rewriter_.graph().mark_output(as(output, from_.value(output).desc.dtype, {}));
    return std::move(rewriter_.graph());
  }

 private:
  void take_over(const Node& node) {
    Graph& graph = rewriter_.graph();
    const bool low = computes_in_bf16(node);
    std::vector<ValueId> inputs;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const DType dtype = from_.value(node.inputs[i]).desc.dtype;
      const bool is_low = low && dtype == DType::kF32 && !stays_f32(node, i);
      inputs.push_back(as(node.inputs[i], is_low ? DType::kBF16 : dtype, node.tag));
    }
    Attrs attrs = node.attrs;
    if (node.op == &matmul_op()) attrs.set("out_dtype", is_wanted_in_f32(node) ? DType::kF32 : DType::kBF16);
    graph.set_tag(node.tag);
    const std::vector<ValueId> outputs = graph.append(*node.op, inputs, attrs, node.name);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      rewriter_.redirect(node.outputs[i], outputs[i]);
      graph.value(outputs[i]).name = from_.value(node.outputs[i]).name;
    }
  }

  // Does no reader of the product compute in bf16?
  bool is_wanted_in_f32(const Node& node) const {
    if (!node.attrs.text("activation").empty()) return false;  // the value before it goes on in bf16
    const std::span<const NodeId> readers = users_.of(node.outputs[0]);
    return std::none_of(readers.begin(), readers.end(),
                        [&](NodeId reader) { return computes_in_bf16(from_.node(reader)); });
  }

  // The value in this dtype; cast where it is not, once.
  ValueId as(ValueId old, DType dtype, const Tag& tag) {
    Graph& graph = rewriter_.graph();
    const ValueId now = rewriter_.at(old);
    if (graph.value(now).desc.dtype == dtype) return now;
    const auto [entry, is_new] = casts_.try_emplace(now.index);
    if (is_new) {
      graph.set_tag(tag);
      entry->second = cast(graph, now, dtype, graph.value(now).name + "." + std::string(name_of(dtype)));
    }
    return entry->second;
  }

  const Graph& from_;
  Users users_;
  Rewriter rewriter_;
  std::map<int, ValueId> casts_;  // by new value; each has one other dtype
};

}  // namespace

Precision find_precision(std::string_view name) {
  if (name == "fp32") return Precision::kF32;
  if (name == "bf16") return Precision::kBF16;
  fail(Fault::kConfig, "train.precision: '", name, "' is not known; fp32 and bf16 are");
}

Graph in_bf16(const Graph& differentiated) {
  return Caster(differentiated).run();
}

}  // namespace takt
