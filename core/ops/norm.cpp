// norm: n = (x - mu) r,  y = n weight (+ bias),  r = 1 / sqrt(mean((x - mu)^2) + eps), over the last axis
//
// With two inputs (x, weight) mu is 0: RMS norm. With a bias as third input mu is the mean: layer norm.
// Outputs   y, mu, r; the last two, one number a row, are kept for the gradient.
// Gradient  g = dy weight;  dx = r (g - mean(g) - n mean(g n)), without mean(g) in RMS norm;
//           dweight = sum over rows of dy n;  dbias = sum over rows of dy (norm_grad). Linear in dy.
// Placement rows stay sharded; the normalised axis must be whole.
// Cost      about 8 FLOPs an element. Memory bound.
#include <algorithm>
#include <cmath>

#include "core/ops/op.h"
#include "core/ops/ordered_sum.h"
#include "core/ops/rows.h"

namespace takt {
namespace {

std::vector<TensorDesc> infer(const OpArgs& args) {
  const TensorDesc& x = args.input(0);
  require_rows(args, x);
  for (std::size_t i = 1; i < args.inputs.size(); ++i)
    TAKT_REQUIRE(args.input(i).dims == Dims{x.dims.back()}, "norm '", args.name,
                 "': weight and bias must be ", to_string(Dims{x.dims.back()}), ", got ", args.input(i));
  return {x, without_last(x), without_last(x)};
}

Gradients grad(const GradArgs& args) {
  const std::vector<ValueId>&in = args.node.inputs, &out = args.node.outputs;
  return append_gradient(args, norm_grad_op(), {dy_of(args), in[0], in[1], out[1], out[2]},
                         {{"centered", in.size() == 3}});
}

void reference(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const Rows rows = rows_of(args.input(0));
  const bool centered = inputs.size() == 3;
  const auto width = static_cast<double>(rows.width);
  for (std::int64_t r = 0; r < rows.count; ++r) {
    const double* x = &inputs[0]->data[r * rows.width];
    double* y = &outputs[0].data[r * rows.width];
    double mean = 0, square = 0;
    for (std::int64_t c = 0; centered && c < rows.width; ++c) mean += x[c] / width;
    for (std::int64_t c = 0; c < rows.width; ++c) square += (x[c] - mean) * (x[c] - mean) / width;
    const double rstd = 1.0 / std::sqrt(square + args.attrs.number("eps"));
    for (std::int64_t c = 0; c < rows.width; ++c)
      y[c] = (x[c] - mean) * rstd * inputs[1]->data[c] + (centered ? inputs[2]->data[c] : 0.0);
    outputs[1].data[r] = mean;
    outputs[2].data[r] = rstd;
  }
}

Kernel cpu(const KernelNode& node) {
  const Rows rows = rows_of(node.input(0));
  const auto eps = static_cast<float>(node.attrs.number("eps")), width = static_cast<float>(rows.width);
  const bool centered = node.inputs.size() == 3;
  return parallel_kernel(node, rows.count, [=](const KernelArgs& k, std::int64_t r) {
    const float *x = k.input<float>(0) + r * rows.width, *weight = k.input<float>(1);
    float* y = k.output<float>(0) + r * rows.width;
    const float mean = centered ? row_sum(rows.width, [&](std::int64_t c) { return x[c]; }) / width : 0.0f;
    const float square =
        row_sum(rows.width, [&](std::int64_t c) { return (x[c] - mean) * (x[c] - mean); }) / width;
    const float rstd = 1.0f / std::sqrt(square + eps);
    k.output<float>(1)[r] = mean;
    k.output<float>(2)[r] = rstd;
    if (centered) {
      const float* bias = k.input<float>(2);
      for (std::int64_t c = 0; c < rows.width; ++c) y[c] = (x[c] - mean) * rstd * weight[c] + bias[c];
    } else {
      for (std::int64_t c = 0; c < rows.width; ++c) y[c] = x[c] * rstd * weight[c];
    }
  });
}

// Inputs dy, x, weight, mu, r; outputs dx, dweight and, centered, dbias.
std::vector<TensorDesc> infer_grad(const OpArgs& args) {
  std::vector<TensorDesc> outputs = {args.input(1), args.input(2)};
  if (args.attrs.flag("centered")) outputs.push_back(args.input(2));
  return outputs;
}

void reference_grad(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const Rows rows = rows_of(args.input(1));
  const bool centered = args.attrs.flag("centered");
  const auto width = static_cast<double>(rows.width);
  for (std::int64_t r = 0; r < rows.count; ++r) {
    const double *dy = &inputs[0]->data[r * rows.width], *x = &inputs[1]->data[r * rows.width];
    const double mean = inputs[3]->data[r], rstd = inputs[4]->data[r];
    const auto g = [&](std::int64_t c) { return dy[c] * inputs[2]->data[c]; };
    const auto n = [&](std::int64_t c) { return (x[c] - mean) * rstd; };
    double mean_g = 0, mean_gn = 0;
    for (std::int64_t c = 0; c < rows.width; ++c) {
      if (centered) mean_g += g(c) / width;
      mean_gn += g(c) * n(c) / width;
    }
    for (std::int64_t c = 0; c < rows.width; ++c) {
      outputs[0].data[r * rows.width + c] = rstd * (g(c) - mean_g - n(c) * mean_gn);
      outputs[1].data[c] += dy[c] * n(c);
      if (centered) outputs[2].data[c] += dy[c];
    }
  }
}

void grad_rows(const KernelArgs& k, Rows rows, bool centered, int num_threads) {
  parallel_for(num_threads, rows.count, [&](std::int64_t r) {
    const float *dy = k.input<float>(0) + r * rows.width, *x = k.input<float>(1) + r * rows.width,
                *weight = k.input<float>(2);
    const float mean = k.input<float>(3)[r], rstd = k.input<float>(4)[r];
    float* dx = k.output<float>(0) + r * rows.width;
    const auto width = static_cast<float>(rows.width);
    const float mean_g =
        centered ? row_sum(rows.width, [&](std::int64_t c) { return dy[c] * weight[c]; }) / width : 0.0f;
    const float mean_gn =
        row_sum(rows.width, [&](std::int64_t c) { return dy[c] * weight[c] * (x[c] - mean); }) * rstd / width;
    for (std::int64_t c = 0; c < rows.width; ++c)
      dx[c] = rstd * (dy[c] * weight[c] - mean_g - (x[c] - mean) * rstd * mean_gn);
  });
}

// Threads own blocks of columns, so that every sum is added up in row order, in double: there may be thousands of rows.
void grad_columns(const KernelArgs& k, Rows rows, bool centered, int num_threads) {
  parallel_columns(num_threads, rows.width, [&](std::int64_t first, std::int64_t columns) {
    double weight_sums[kColumns] = {}, bias_sums[kColumns] = {};
    for (std::int64_t r = 0; r < rows.count; ++r) {
      const float *dy = k.input<float>(0) + r * rows.width + first,
                  *x = k.input<float>(1) + r * rows.width + first;
      const float mean = k.input<float>(3)[r], rstd = k.input<float>(4)[r];
      for (std::int64_t c = 0; c < columns; ++c) {
        weight_sums[c] += static_cast<double>(dy[c] * (x[c] - mean) * rstd);
        bias_sums[c] += static_cast<double>(dy[c]);
      }
    }
    const auto store = [&](const double* sums, float* y) {
      for (std::int64_t c = 0; c < columns; ++c) y[first + c] = static_cast<float>(sums[c]);
    };
    store(weight_sums, k.output<float>(1));
    if (centered) store(bias_sums, k.output<float>(2));
  });
}

// The same in pieces of the rows, see ordered_sum.h. `sums` are of the weight and then of the bias.
void grad_columns_in_pieces(const KernelArgs& k, Rows rows, const PiecedSum& rows_summed, bool centered,
                            int num_threads) {
  parallel_columns(num_threads, rows.width, [&](std::int64_t first, std::int64_t columns) {
    float sums[2 * kColumns], levels[kMostLevels * 2 * kColumns];
    tree_sum(0, rows_summed.num_pieces, sums, levels, 2 * columns, [&](std::int64_t piece, float* to) {
      double totals[2 * kColumns] = {};
      rows_summed.for_each(piece, [&](std::int64_t r) {
        const float *dy = k.input<float>(0) + r * rows.width + first,
                    *x = k.input<float>(1) + r * rows.width + first;
        const float mean = k.input<float>(3)[r], rstd = k.input<float>(4)[r];
        for (std::int64_t c = 0; c < columns; ++c) {
          totals[c] += static_cast<double>(dy[c] * (x[c] - mean) * rstd);
          totals[columns + c] += static_cast<double>(dy[c]);
        }
      });
      for (std::int64_t c = 0; c < 2 * columns; ++c) to[c] = static_cast<float>(totals[c]);
    });
    std::copy_n(sums, columns, k.output<float>(1) + first);
    if (centered) std::copy_n(sums + columns, columns, k.output<float>(2) + first);
  });
}

Kernel cpu_grad_in_pieces(const KernelNode& node) {
  const TensorDesc of_rows = without_last(node.input(1));
  return [rows = rows_of(node.input(1)), sum = pieced_sum(node, node.input(1), names_of(of_rows.dims)),
          centered = node.attrs.flag("centered"), threads = node.num_threads](const KernelArgs& k) {
    grad_columns_in_pieces(k, rows, sum, centered, threads);
    grad_rows(k, rows, centered, threads);
  };
}

Kernel cpu_grad(const KernelNode& node) {
  if (node.attrs.has("pieces")) return cpu_grad_in_pieces(node);
  return [rows = rows_of(node.input(1)), centered = node.attrs.flag("centered"),
          threads = node.num_threads](const KernelArgs& k) {
    grad_columns(k, rows, centered, threads);
    grad_rows(k, rows, centered, threads);
  };
}

const TensorDesc kX{{{"batch", 4}, {"seq", 4}, {"embed", 24}}}, kRow{{{"embed", 24}}};
const std::vector<Sample> kSamples = {
    sample("rms", {{"x", kX}, {"weight", kRow}},
           [](Graph& g, const auto& in) { rms_norm(g, in[0], in[1], 1e-5, "y"); }),
    sample("layer", {{"x", kX}, {"weight", kRow}, {"bias", kRow}},
           [](Graph& g, const auto& in) { layer_norm(g, in[0], in[1], in[2], 1e-5, "y"); })};

}  // namespace

OpDef norm_record() {
  return {.infer = infer,
          .grad = grad,
          .flops_per_element = 8,
          .placement = {.whole_last_of = 0},
          .reference = reference,
          .cpu = {.prepare = cpu},
          .samples = kSamples};
}

OpDef norm_grad_record() {
  return {.infer = infer_grad,
          .flops_per_element = 8,
          .placement = {.whole_last_of = 1, .linear_in = {{0}}},
          .reference = reference_grad,
          .cpu = {.prepare = cpu_grad},
          .samples = with_gradient(kSamples)};
}

ValueId rms_norm(Graph& graph, ValueId x, ValueId weight, double eps, const std::string& name) {
  return graph.append(norm_op(), {x, weight}, {{"eps", eps}}, name).front();
}

ValueId layer_norm(Graph& graph, ValueId x, ValueId weight, ValueId bias, double eps,
                   const std::string& name) {
  return graph.append(norm_op(), {x, weight, bias}, {{"eps", eps}}, name).front();
}

}  // namespace takt
