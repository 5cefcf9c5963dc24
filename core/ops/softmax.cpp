// softmax: y[r, c] = exp(x[r, c] - m[r]) / sum_c exp(x[r, c] - m[r]),  m[r] = max_c x[r, c], over the last axis
//
// Gradient  dx = y (dy - sum_c(y dy)): needs y and not x, so x may be freed (softmax_grad, linear in dy).
// Placement rows stay sharded; the last axis must be whole. (The loss over a sharded vocabulary is cross_entropy.)
// Cost      about 5 FLOPs an element. Memory bound.
#include <algorithm>
#include <cmath>

#include "core/ops/op.h"
#include "core/ops/rows.h"
#include "core/ops/vector_math.h"

namespace takt {
namespace {

// x, or y and dy, alike.
std::vector<TensorDesc> infer(const OpArgs& args) {
  require_rows(args, args.input(0));
  return infer_alike(args);
}

Gradients grad(const GradArgs& args) {
  return append_gradient(args, softmax_grad_op(), {args.node.outputs[0], dy_of(args)});
}

void reference(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const auto width = static_cast<std::size_t>(args.input(0).dims.back().extent);
  for (std::size_t first = 0; first < outputs[0].data.size(); first += width) {
    const double* x = &inputs[0]->data[first];
    const double max = *std::max_element(x, x + width);
    double sum = 0;
    for (std::size_t c = 0; c < width; ++c) sum += std::exp(x[c] - max);
    for (std::size_t c = 0; c < width; ++c) outputs[0].data[first + c] = std::exp(x[c] - max) / sum;
  }
}

Kernel cpu(const KernelNode& node) {
  const Rows rows = rows_of(node.input(0));
  return parallel_kernel(node, rows.count, [width = rows.width](const KernelArgs& k, std::int64_t r) {
    const float* x = k.input<float>(0) + r * width;
    float* y = k.output<float>(0) + r * width;
    const float max = *std::max_element(x, x + width);
    float sum = 0;
    for (std::int64_t c = 0; c < width; ++c) y[c] = exp_cephes(x[c] - max);
    for (std::int64_t c = 0; c < width; ++c) sum += y[c];
    for (std::int64_t c = 0; c < width; ++c) y[c] /= sum;
  });
}

void reference_grad(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const auto width = static_cast<std::size_t>(args.input(0).dims.back().extent);
  for (std::size_t first = 0; first < outputs[0].data.size(); first += width) {
    double sum = 0;
    for (std::size_t i = first; i < first + width; ++i) sum += inputs[0]->data[i] * inputs[1]->data[i];
    for (std::size_t i = first; i < first + width; ++i)
      outputs[0].data[i] = inputs[0]->data[i] * (inputs[1]->data[i] - sum);
  }
}

Kernel cpu_grad(const KernelNode& node) {
  const Rows rows = rows_of(node.input(0));
  return parallel_kernel(node, rows.count, [width = rows.width](const KernelArgs& k, std::int64_t r) {
    const float *y = k.input<float>(0) + r * width, *dy = k.input<float>(1) + r * width;
    float* dx = k.output<float>(0) + r * width;
    float sum = 0;
    for (std::int64_t c = 0; c < width; ++c) sum += y[c] * dy[c];
    for (std::int64_t c = 0; c < width; ++c) dx[c] = y[c] * (dy[c] - sum);
  });
}

const Sample kSample = sample("rows of 12", {{"x", {{{"batch", 4}, {"vocab", 12}}}}},
                              [](Graph& g, const auto& in) { softmax(g, in[0], "y"); });

}  // namespace

OpDef softmax_record() {
  return {.infer = infer,
          .grad = grad,
          .flops_per_element = 5,
          .placement = {.whole_last_of = 0},
          .reference = reference,
          .cpu = {.prepare = cpu},
          .samples = {kSample}};
}

OpDef softmax_grad_record() {
  return {.infer = infer,
          .flops_per_element = 5,
          .placement = {.whole_last_of = 0, .linear_in = {{1}}},
          .reference = reference_grad,
          .cpu = {.prepare = cpu_grad},
          .samples = with_gradient({kSample})};
}

ValueId softmax(Graph& graph, ValueId x, const std::string& name) {
  return graph.append_one(softmax_op(), {x}, {}, name);
}

}  // namespace takt
