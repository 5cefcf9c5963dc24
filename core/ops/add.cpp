// add: y = x0 + x1 + ... , where later terms may lack leading axes and are repeated along them
//
// Gradient  dy for every term, summed over the axes the term lacks.
// Placement elementwise; linear in all terms together, so partial sums add up without communication.
// Cost      one FLOP an element and term, counted for two terms. Memory bound.
#include <algorithm>

#include "core/ops/elementwise.h"
#include "core/ops/op.h"

namespace takt {
namespace {

constexpr std::int64_t kChunk = 2048;  // elements; their sums stay in the first-level cache

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

Gradients grad(const GradArgs& args) {
  const ValueId dy = dy_of(args);
  Gradients grads;
  for (const ValueId term : args.node.inputs) {
    const AxisNames lacking = axes_without(args.graph.value(dy).desc.dims, args.graph.value(term).desc.dims);
    grads.push_back(lacking.empty() ? dy
                                    : reduce(args.graph, dy, lacking, ReduceOp::kSum, "d." + args.node.name));
  }
  return grads;
}

void reference(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (const Array* term : inputs)
    for (std::size_t i = 0; i < outputs[0].data.size(); ++i)
      outputs[0].data[i] += term->data[i % term->data.size()];
}

// Elements [first, first + count) of y: sums are f32 and rounded once. y may be the first term's storage.
template <class T>
void add_chunk(const KernelArgs& k, const std::vector<std::int64_t>& periods, std::int64_t first,
               std::int64_t count) {
  float sums[kChunk];
  for (std::size_t term = 0; term < periods.size(); ++term) {
    const T* x = k.input<T>(term);
    for (std::int64_t done = 0; done < count;) {  // runs within one repetition of the term
      const std::int64_t start = (first + done) % periods[term],
                         run = std::min(count - done, periods[term] - start);
      if (term == 0)
        for (std::int64_t e = 0; e < run; ++e) sums[done + e] = to_float(x[start + e]);
      else
        for (std::int64_t e = 0; e < run; ++e) sums[done + e] += to_float(x[start + e]);
      done += run;
    }
  }
  T* y = k.output<T>(0) + first;
  for (std::int64_t e = 0; e < count; ++e) y[e] = stored<T>(sums[e]);
}

Kernel cpu(const KernelNode& node) {
  std::vector<std::int64_t> periods;
  for (const TensorDesc& input : node.inputs) periods.push_back(input.num_elements());
  const std::int64_t n = node.output(0).num_elements();
  return with_floating(node.output(0).dtype, [&](auto type) {
    return parallel_kernel(
        node, (n + kChunk - 1) / kChunk, [periods, n](const KernelArgs& k, std::int64_t chunk) {
          add_chunk<decltype(type)>(k, periods, chunk * kChunk, std::min(kChunk, n - chunk * kChunk));
        });
  });
}

const TensorDesc kFull{{{"batch", 4}, {"seq", 3}, {"embed", 8}}};
const Sample kSample = sample("three terms, one without batch",
                              {{"x", kFull}, {"y", kFull}, {"positions", {{{"seq", 3}, {"embed", 8}}}}},
                              [](Graph& g, const auto& in) { add(g, in, "sum"); });

}  // namespace

OpDef add_record() {
  return {.infer = infer,
          .grad = grad,
          .flops_per_element = 1,
          .placement = {.linear_in = {{PlacementRule::kAll}}},
          .reference = reference,
          .cpu = {.prepare = cpu, .bf16 = true},
          .may_overwrite_input = true,
          .samples = {kSample}};
}

ValueId add(Graph& graph, const std::vector<ValueId>& terms, const std::string& name) {
  return graph.append_one(add_op(), terms, {}, name);
}

}  // namespace takt
