// add: y = x0 + x1 + ... , where later terms may lack leading axes and are repeated along them
//
// Gradient  dy for every term, summed over the axes the term lacks.
// Placement elementwise; linear in all terms together, so partial sums add up without communication.
// Cost      one FLOP an element and term. Memory bound.
#include "core/ops/builders.h"

#include <cstring>

#include "core/ops/op.h"

namespace takt {
namespace {

std::vector<TensorDesc> infer(const OpArgs& args) {
  const TensorDesc& x = args.input(0);
  for (const TensorDesc& term : args.inputs) {
    const std::size_t rank = term.dims.size();
    TAKT_REQUIRE(
        term.dtype == x.dtype && rank <= x.dims.size() &&
            std::equal(term.dims.begin(), term.dims.end(), x.dims.end() - static_cast<std::ptrdiff_t>(rank)),
        "add '", args.name, "': a term is ", term, "; it must have the last axes of the first term, ", x);
  }
  return {x};
}

std::vector<std::optional<ValueId>> grad(const GradArgs& args) {
  const ValueId dy = args.output_grads[0].value();
  std::vector<std::optional<ValueId>> grads;
  for (const ValueId term : args.node.inputs) {
    const Dims& dims = args.graph.value(term).desc.dims;
    AxisNames lacking;
    for (const Dim& dim : args.graph.value(dy).desc.dims)
      if (find_axis(dims, dim.axis) < 0) lacking.push_back(dim.axis);
    grads.push_back(lacking.empty() ? dy
                                    : reduce(args.graph, dy, lacking, ReduceOp::kSum, "d." + args.node.name));
  }
  return grads;
}

Cost cost(const OpArgs& args) {
  return cost_an_element(args, static_cast<double>(args.inputs.size() - 1));
}

std::vector<OpPlacement> placements(const OpArgs& args) {
  std::vector<OpPlacement> signatures = batch_rules(args, {});
  OpPlacement linear = replicated_rule(args);
  for (AxisPlacement& input : linear.inputs) input = AxisPlacement::partial();
  linear.outputs[0] = AxisPlacement::partial();
  signatures.push_back(linear);
  return signatures;
}

void reference(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (const Array* term : inputs)
    for (std::size_t i = 0; i < outputs[0].data.size(); ++i)
      outputs[0].data[i] += term->data[i % term->data.size()];
}

Kernel cpu(const KernelNode& node) {
  std::vector<std::int64_t> term_elements;
  for (const TensorDesc& input : node.inputs) term_elements.push_back(input.num_elements());
  return [term_elements, n = node.output(0).num_elements(), t = node.num_threads](const KernelArgs& k) {
    if (k.inputs[0] != k.outputs[0])
      std::memcpy(k.outputs[0], k.inputs[0], static_cast<std::size_t>(n) * sizeof(float));
    float* y = k.output<float>(0);
    for (std::size_t i = 1; i < term_elements.size(); ++i) {
      const float* x = k.input<float>(i);
      const std::int64_t period = term_elements[i];
      parallel_blocks(t, n, [=](std::int64_t first, std::int64_t last) {
        for (std::int64_t j = first; j < last;) {  // runs within one repetition of the term
          const std::int64_t start = j % period, run = std::min(last - j, period - start);
          for (std::int64_t e = 0; e < run; ++e) y[j + e] += x[start + e];
          j += run;
        }
      });
    }
  };
}

std::vector<Sample> samples() {
  const auto with_bias = [](Graph& g) {
    const TensorDesc full{{{"batch", 4}, {"seq", 3}, {"embed", 8}}, DType::kF32};
    const ValueId x = g.input("x", full), y = g.input("y", full);
    const ValueId positions = g.input("positions", {{{"seq", 3}, {"embed", 8}}, DType::kF32});
    add(g, {x, y, positions}, "sum");
  };
  return {{.name = "three terms, one without batch", .build = with_bias}};
}

}  // namespace

const OpDef& add_op() {
  static const OpDef op = {.name = "add",
                           .infer = infer,
                           .grad = grad,
                           .cost = cost,
                           .placements = placements,
                           .reference = reference,
                           .cpu = {cpu},
                           .may_overwrite_input = true,
                           .samples = samples()};
  return op;
}

ValueId add(Graph& graph, const std::vector<ValueId>& terms, const std::string& name) {
  return graph.append_one(add_op(), terms, {}, name);
}

}  // namespace takt
