// softmax: y[r, c] = exp(x[r, c] - m[r]) / sum_c exp(x[r, c] - m[r]),  m[r] = max_c x[r, c], over the last axis
//
// Gradient  dx = y (dy - sum_c(y dy)): needs y and not x, so x may be freed (softmax_grad, linear in dy).
// Placement rows stay sharded; the last axis must be whole. (The loss over a sharded vocabulary is cross_entropy.)
// Cost      about 5 FLOPs an element. Memory bound.
#include "core/ops/builders.h"

#include <algorithm>
#include <cmath>

#include "core/ops/op.h"
#include "core/ops/vector_math.h"

namespace takt {
namespace {

std::vector<TensorDesc> infer(const OpArgs& args) {
  const TensorDesc& x = args.input(0);
  TAKT_REQUIRE(!x.dims.empty(), "softmax '", args.name, "': x needs at least one axis, got a scalar");
  TAKT_REQUIRE(is_floating(x.dtype), "softmax '", args.name, "': x must be floating, got ", x);
  return {x};
}

std::vector<std::optional<ValueId>> grad(const GradArgs& args) {
  return {args.graph.append_one(softmax_grad_op(), {args.node.outputs[0], args.output_grads[0].value()}, {},
                                "d." + args.node.name)};
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
  const std::int64_t width = node.input(0).dims.back().extent, rows = node.input(0).num_elements() / width;
  return [=, threads = node.num_threads](const KernelArgs& k) {
    parallel_for(threads, rows, [&](std::int64_t r) {
      const float* x = k.input<float>(0) + r * width;
      float* y = k.output<float>(0) + r * width;
      const float max = *std::max_element(x, x + width);
      float sum = 0;
      for (std::int64_t c = 0; c < width; ++c) y[c] = exp_cephes(x[c] - max);
      for (std::int64_t c = 0; c < width; ++c) sum += y[c];
      for (std::int64_t c = 0; c < width; ++c) y[c] /= sum;
    });
  };
}

std::vector<TensorDesc> infer_grad(const OpArgs& args) {
  TAKT_REQUIRE(args.input(0) == args.input(1), "softmax_grad '", args.name, "': y is ", args.input(0),
               ", dy is ", args.input(1));
  return {args.input(0)};
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
  const std::int64_t width = node.input(0).dims.back().extent, rows = node.input(0).num_elements() / width;
  return [=, threads = node.num_threads](const KernelArgs& k) {
    parallel_for(threads, rows, [&](std::int64_t r) {
      const float *y = k.input<float>(0) + r * width, *dy = k.input<float>(1) + r * width;
      float* dx = k.output<float>(0) + r * width;
      float sum = 0;
      for (std::int64_t c = 0; c < width; ++c) sum += y[c] * dy[c];
      for (std::int64_t c = 0; c < width; ++c) dx[c] = y[c] * (dy[c] - sum);
    });
  };
}

std::vector<Sample> samples(bool with_grad) {
  return {{.name = "rows of 12", .build = [with_grad](Graph& g) {
             const TensorDesc desc{{{"batch", 4}, {"vocab", 12}}, DType::kF32};
             const ValueId y = softmax(g, g.input("x", desc), "y");
             if (with_grad) g.append_one(softmax_grad_op(), {y, g.input("dy", desc)}, {}, "dx");
           }}};
}

}  // namespace

const OpDef& softmax_op() {
  static const OpDef op = {.name = "softmax",
                           .infer = infer,
                           .grad = grad,
                           .flops_per_element = 5,
                           .placement = {.whole_last_of = 0},
                           .reference = reference,
                           .cpu = {.prepare = cpu},
                           .samples = samples(false)};
  return op;
}

const OpDef& softmax_grad_op() {
  static const OpDef op = {.name = "softmax_grad",
                           .infer = infer_grad,
                           .flops_per_element = 5,
                           .placement = {.whole_last_of = 0, .linear_in = {{1}}},
                           .reference = reference_grad,
                           .cpu = {.prepare = cpu_grad},
                           .samples = samples(true)};
  return op;
}

ValueId softmax(Graph& graph, ValueId x, const std::string& name) {
  return graph.append_one(softmax_op(), {x}, {}, name);
}

}  // namespace takt
