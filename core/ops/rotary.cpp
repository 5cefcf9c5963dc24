// rotary: for i < d/2, with angle a = p theta^(-2i/d) at position p along "seq":
//   y[i] = x[i] cos a - x[i + d/2] sin a,   y[i + d/2] = x[i + d/2] cos a + x[i] sin a
//
// The pairing (i, i + d/2) is that of Hugging Face Llama weights.
// Gradient  the rotation by -a (attribute inverse). Linear.
// Placement every axis but the last may be sharded; positions count from the shard's offset along "seq".
// Cost      3 FLOPs an element. Memory bound.
// Source    Su et al. 2021, arXiv:2104.09864.
#include "core/ops/rotary.h"

#include <cmath>
#include <memory>

#include "core/ops/op.h"

namespace takt {
namespace {

// x seen as [outer, seq, inner, width].
struct Layout {
  std::int64_t outer = 1, seq = 1, inner = 1, width = 1;
};

Layout layout_of(const TensorDesc& x) {
  Layout layout;
  const int seq = find_axis(x.dims, "seq");
  for (int i = 0; i < static_cast<int>(x.dims.size()); ++i) {
    const std::int64_t extent = x.dims[static_cast<std::size_t>(i)].extent;
    if (i == static_cast<int>(x.dims.size()) - 1)
      layout.width = extent;
    else
      (i < seq ? layout.outer : i == seq ? layout.seq : layout.inner) *= extent;
  }
  return layout;
}

double angle(std::int64_t position, std::int64_t i, std::int64_t width, double theta) {
  return static_cast<double>(position) *
         std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(width));
}

std::vector<TensorDesc> infer(const OpArgs& args) {
  const TensorDesc& x = args.input(0);
  TAKT_REQUIRE(
      x.dims.size() >= 2 && x.has("seq") && x.dims.back().axis != "seq" && x.dims.back().extent % 2 == 0,
      "rotary '", args.name, "': x needs an axis 'seq' and an even last axis, got ", x);
  return {x};
}

std::vector<std::optional<ValueId>> grad(const GradArgs& args) {
  Attrs attrs = args.node.attrs;
  attrs.set("inverse", !attrs.flag("inverse"));
  return {args.graph.append_one(rotary_op(), {args.output_grads[0].value()}, attrs, "d." + args.node.name)};
}

Cost cost(const OpArgs& args) {
  return cost_an_element(args, 3.0);
}

std::vector<OpPlacement> placements(const OpArgs& args) {
  std::vector<OpPlacement> signatures = batch_rules(args, {args.input(0).dims.back().axis});
  signatures.push_back(linear_rule(args, {0}));
  return signatures;
}

void reference(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const Layout l = layout_of(args.input(0));
  const double sign = args.attrs.flag("inverse") ? -1.0 : 1.0;
  for (std::int64_t row = 0; row < l.outer * l.seq * l.inner; ++row)
    for (std::int64_t i = 0; i < l.width / 2; ++i) {
      const double a = sign * angle(row / l.inner % l.seq, i, l.width, args.attrs.number("theta"));
      const auto low = static_cast<std::size_t>(row * l.width + i),
                 high = low + static_cast<std::size_t>(l.width / 2);
      const std::vector<double>& x = inputs[0]->data;
      outputs[0].data[low] = x[low] * std::cos(a) - x[high] * std::sin(a);
      outputs[0].data[high] = x[high] * std::cos(a) + x[low] * std::sin(a);
    }
}

Kernel cpu(const KernelNode& node) {
  const Layout l = layout_of(node.input(0));
  const std::int64_t half = l.width / 2, offset = node.range(node.input(0), "seq").offset;
  const double sign = node.attrs.flag("inverse") ? -1.0 : 1.0;
  const auto cosines = std::make_shared<std::vector<float>>(), sines = std::make_shared<std::vector<float>>();
  for (std::int64_t p = 0; p < l.seq; ++p)
    for (std::int64_t i = 0; i < half; ++i) {
      const double a = sign * angle(offset + p, i, l.width, node.attrs.number("theta"));
      cosines->push_back(static_cast<float>(std::cos(a)));
      sines->push_back(static_cast<float>(std::sin(a)));
    }
  return [=, threads = node.num_threads](const KernelArgs& k) {
    parallel_for(threads, l.outer * l.seq, [&](std::int64_t os) {
      const float *c = cosines->data() + os % l.seq * half, *s = sines->data() + os % l.seq * half;
      for (std::int64_t row = os * l.inner; row < (os + 1) * l.inner; ++row) {
        const float* x = k.input<float>(0) + row * l.width;
        float* y = k.output<float>(0) + row * l.width;
        for (std::int64_t i = 0; i < half; ++i) {
          const float low = x[i], high = x[i + half];
          y[i] = low * c[i] - high * s[i];
          y[i + half] = high * c[i] + low * s[i];
        }
      }
    });
  };
}

std::vector<Sample> samples() {
  return {{.name = "heads", .build = [](Graph& g) {
             rotary(g, g.input("x", {{{"batch", 4}, {"seq", 4}, {"heads", 4}, {"head_dim", 6}}, DType::kF32}),
                    100.0, "y");
           }}};
}

}  // namespace

const OpDef& rotary_op() {
  static const OpDef op = {.name = "rotary",
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

ValueId rotary(Graph& graph, ValueId x, double theta, const std::string& name) {
  return graph.append_one(rotary_op(), {x}, {{"theta", theta}, {"inverse", false}}, name);
}

}  // namespace takt
