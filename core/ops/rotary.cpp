// rotary: for i < d/2, with the table's cosine c and sine s of position p along "seq" and pair i:
//   y[i] = x[i] c - x[i + d/2] s,   y[i + d/2] = x[i + d/2] c + x[i] s
// rotary_table: cosine and sine of p theta^(-2i/d), which every layer shares
//
// The pairing (i, i + d/2) is that of Hugging Face Llama weights.
// Gradient  the rotation by the negative angles (attribute inverse). Linear in x; the table has none.
// Placement every axis but the last may be sharded; along "seq" the table is sharded with x.
// Cost      3 FLOPs an element. Memory bound.
// Source    Su et al. 2021, arXiv:2104.09864.
#include <cmath>

#include "core/ops/elementwise.h"
#include "core/ops/op.h"

namespace takt {
namespace {

// x seen as [outer, seq, inner, width].
struct Layout {
  std::int64_t outer, seq, inner, width;
};

Layout layout_of(const OpArgs& args) {
  const Split split = split_around(args, args.input(0).dims, {"seq"});
  const std::int64_t width = args.input(0).dims.back().extent;
  return {split.outer, split.middle, split.inner / width, width};
}

Dims table_dims(std::int64_t seq, std::int64_t half) {
  return {{"seq", seq}, {"turn", 2}, {"pair", half}};
}

std::vector<TensorDesc> infer(const OpArgs& args) {
  const TensorDesc &x = args.input(0), &table = args.input(1);
  TAKT_REQUIRE(is_floating(x.dtype) && x.dims.size() >= 2 && x.has("seq") && x.dims.back().axis != "seq" &&
                   x.dims.back().extent % 2 == 0,
               "rotary '", args.name, "': x needs an axis 'seq' and an even last axis, got ", x);
  const TensorDesc wanted{table_dims(x.extent("seq"), x.dims.back().extent / 2), DType::kF32};
  TAKT_REQUIRE(table == wanted, "rotary '", args.name, "': for x ", x, " the table must be ", wanted,
               ", got ", table);
  return {x};
}

Gradients grad(const GradArgs& args) {
  return {rotary(args.graph, dy_of(args), args.node.inputs[1], "d." + args.node.name,
                 !args.node.attrs.flag("inverse")),
          std::nullopt};
}

void reference(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const Layout l = layout_of(args);
  const double sign = args.attrs.flag("inverse") ? -1.0 : 1.0;
  const std::int64_t half = l.width / 2;
  const std::vector<double>&x = inputs[0]->data, &table = inputs[1]->data;
  for (std::int64_t row = 0; row < l.outer * l.seq * l.inner; ++row)
    for (std::int64_t i = 0; i < half; ++i) {
      const std::int64_t low = row * l.width + i, high = low + half,
                         turn = row / l.inner % l.seq * l.width + i;
      const double cosine = table[turn], sine = sign * table[turn + half];
      outputs[0].data[low] = x[low] * cosine - x[high] * sine;
      outputs[0].data[high] = x[high] * cosine + x[low] * sine;
    }
}

// One row of `half` pairs. y may be x.
template <class T>
void rotate(const T* x, T* y, const float* cosines, const float* sines, float sign, std::int64_t half) {
#pragma GCC ivdep
  for (std::int64_t i = 0; i < half; ++i) {
    const float low = to_float(x[i]), high = to_float(x[i + half]), sine = sign * sines[i];
    y[i] = stored<T>(low * cosines[i] - high * sine);
    y[i + half] = stored<T>(high * cosines[i] + low * sine);
  }
}

Kernel cpu(const KernelNode& node) {
  const Layout l = layout_of(node);
  const float sign = node.attrs.flag("inverse") ? -1.0f : 1.0f;
  return with_floating(node.input(0).dtype, [&](auto type) {
    using T = decltype(type);
    return parallel_kernel(node, l.outer * l.seq, [l, sign](const KernelArgs& k, std::int64_t os) {
      const float* turn = k.input<float>(1) + os % l.seq * l.width;
      for (std::int64_t row = os * l.inner; row < (os + 1) * l.inner; ++row)
        rotate(k.input<T>(0) + row * l.width, k.output<T>(0) + row * l.width, turn, turn + l.width / 2, sign,
               l.width / 2);
    });
  });
}

double angle(std::int64_t position, std::int64_t pair, std::int64_t half, double theta) {
  return static_cast<double>(position) *
         std::pow(theta, -static_cast<double>(pair) / static_cast<double>(half));
}

void reference_table(const OpArgs& args, std::span<const Array* const>, std::span<Array> outputs) {
  const std::int64_t half = outputs[0].dims[2].extent;
  for (std::int64_t i = 0; i < args.output(0).num_elements(); ++i) {
    const double a = angle(i / half / 2, i % half, half, args.attrs.number("theta"));
    outputs[0].data[i] = i / half % 2 == 0 ? std::cos(a) : std::sin(a);
  }
}

Kernel cpu_table(const KernelNode& node) {
  const TensorDesc& table = node.output(0);
  const std::int64_t half = table.dims[2].extent, offset = node.range(table, "seq").offset;
  const double theta = node.attrs.number("theta");
  return parallel_kernel(node, table.dims[0].extent, [=](const KernelArgs& k, std::int64_t p) {
    float* row = k.output<float>(0) + p * 2 * half;
    for (std::int64_t i = 0; i < half; ++i) {
      const double a = angle(offset + p, i, half, theta);
      row[i] = static_cast<float>(std::cos(a));
      row[half + i] = static_cast<float>(std::sin(a));
    }
  });
}

Sample sample_of(bool inverse) {
  return sample(inverse ? "back" : "heads",
                {{"x", {{{"batch", 4}, {"seq", 4}, {"heads", 4}, {"head_dim", 6}}}}},
                [inverse](Graph& g, const auto& in) {
                  rotary(g, in[0], rotary_table(g, 4, 3, 100.0, "table"), "y", inverse);
                });
}

const Sample kTable =
    sample("positions", {}, [](Graph& g, const auto&) { rotary_table(g, 8, 3, 100.0, "table"); });

}  // namespace

OpDef rotary_record() {
  return {.infer = infer,
          .grad = grad,
          .flops_per_element = 3,
          .placement = {.whole = {"turn", "pair"}, .whole_last_of = 0, .linear_in = {{0}}},
          .f32_inputs = {1},
          .reference = reference,
          .cpu = {.prepare = cpu, .bf16 = true},
          .may_overwrite_input = true,
          .samples = {sample_of(false), sample_of(true)}};
}

OpDef rotary_table_record() {
  return {.infer = infer_dims,
          .flops_per_element = 40,
          .placement = {.whole = {"turn", "pair"}},
          .reference = reference_table,
          .cpu = {.prepare = cpu_table},
          .samples = {kTable}};
}

ValueId rotary(Graph& graph, ValueId x, ValueId table, const std::string& name, bool inverse) {
  return graph.append_one(rotary_op(), {x, table}, {{"inverse", inverse}}, name);
}

ValueId rotary_table(Graph& graph, std::int64_t seq, std::int64_t half, double theta,
                     const std::string& name) {
  return graph.append_one(rotary_table_op(), {}, {{"dims", table_dims(seq, half)}, {"theta", theta}}, name);
}

}  // namespace takt
