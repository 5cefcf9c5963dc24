// Newton-Schulz: five times  A = X X^T,  X = a X + (b A + c A A) X,  on matrices whose norm is 1 at most
//
//   normalize_matrices   y = x / (|x| + 1e-7), the Frobenius norm of each matrix
//   weighted_sum         y = a x + b z
//
// The iteration takes singular values to about 1 and keeps singular vectors. X X^T is taken on the shorter side. Axes
// have names, so that a product of a matrix with itself wants a copy under other names: two copies an iteration.
// Placement matrices are never cut: whoever normalises one has it whole. But they may be dealt to ranks along stacked
//           axes, and everything after that is products of whole matrices where they lie.
// Precision f32 throughout, also where the model computes in bf16.
// Source    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks" (steps, coefficients, 1e-7).
#include "optimizers/newton_schulz.h"

#include <algorithm>
#include <cmath>

#include "core/ops/cuda_kernels.h"
#include "core/ops/elementwise.h"
#include "core/ops/op.h"
#include "core/ops/rows.h"

namespace takt {
namespace {

constexpr int kSteps = 5;
constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
constexpr double kEps = 1e-7;

struct Matrices {
  std::int64_t count = 1, num_elements = 1;  // of each
  explicit Matrices(const OpArgs& args) {
    const Dims& dims = args.input(0).dims;
    const auto num_stacked = static_cast<std::size_t>(args.attrs.integer("num_stacked"));
    for (std::size_t d = 0; d < dims.size(); ++d) (d < num_stacked ? count : num_elements) *= dims[d].extent;
  }
};

std::vector<OpPlacement> placements_normalize(const OpArgs& args) {
  std::vector<OpPlacement> signatures = {replicated_rule(args)};
  for (std::int64_t d = 0; d < args.attrs.integer("num_stacked"); ++d)
    signatures.push_back(split_rule(args, args.input(0).dims[static_cast<std::size_t>(d)].axis));
  return signatures;
}

void reference_normalize(const OpArgs& args, std::span<const Array* const> in, std::span<Array> out) {
  const Matrices m(args);
  for (std::int64_t i = 0; i < m.count; ++i) {
    double square = 0;
    for (std::int64_t e = 0; e < m.num_elements; ++e) {
      const double x = in[0]->data[i * m.num_elements + e];
      square += x * x;
    }
    for (std::int64_t e = i * m.num_elements; e < (i + 1) * m.num_elements; ++e)
      out[0].data[e] = in[0]->data[e] / (std::sqrt(square) + kEps);
  }
}

Kernel cpu_normalize(const KernelNode& node) {
  return parallel_kernel(
      node, Matrices(node).count, [n = Matrices(node).num_elements](const KernelArgs& k, std::int64_t i) {
        const float* x = k.input<float>(0) + i * n;
        float* y = k.output<float>(0) + i * n;
        const auto square = [x](std::int64_t e) {
          return static_cast<double>(x[e]) * static_cast<double>(x[e]);
        };
        const auto scale = static_cast<float>(1 / (std::sqrt(fold(n, 0.0, std::plus(), square)) + kEps));
        for (std::int64_t e = 0; e < n; ++e) y[e] = scale * x[e];
      });
}

void reference_sum(const OpArgs& args, std::span<const Array* const> in, std::span<Array> out) {
  for (std::size_t i = 0; i < out[0].data.size(); ++i)
    out[0].data[i] = args.attrs.number("a") * in[0]->data[i] + args.attrs.number("b") * in[1]->data[i];
}

Kernel cpu_sum(const KernelNode& node) {
  const auto a = static_cast<float>(node.attrs.number("a")), b = static_cast<float>(node.attrs.number("b"));
  return elementwise_kernel<2>(node, [a, b](float x, float z) { return a * x + b * z; });
}

ValueId weighted_sum(Graph& graph, double a, ValueId x, double b, ValueId z, const std::string& name) {
  return graph.append_one(weighted_sum_op(), {x, z}, {{"a", a}, {"b", b}}, name);
}

// One iteration on x: [stacked..., rows, columns]. `shorter` is the last axis of x or the one before it.
ValueId iteration(Graph& graph, ValueId x, const Axis& shorter, const std::string& name) {
  const Axis other = "newton", third = "schulz";
  const ValueId twin = rename(graph, x, shorter, other, name + ".twin");
  AxisNames square = names_of(graph.value(x).desc.dims), wide = square;
  square[square.size() - 2] = shorter;
  square[square.size() - 1] = other;
  const ValueId gram = matmul(graph, x, twin, square, name + ".gram");
  const Dims dims = graph.value(gram).desc.dims;
  Dims moved = dims;
  moved[moved.size() - 2].axis = other;
  moved[moved.size() - 1].axis = third;
  AxisNames power = square;
  power[power.size() - 1] = third;
  const ValueId gram_squared =
      matmul(graph, gram, reshape(graph, gram, moved, name + ".gram.twin"), power, name + ".gram.power");
  const ValueId polynomial = weighted_sum(
      graph, kB, gram, kC, reshape(graph, gram_squared, dims, name + ".gram.squared"), name + ".polynomial");
  return weighted_sum(graph, kA, x, 1, matmul(graph, polynomial, twin, wide, name + ".product"), name);
}

const TensorDesc kSample{{{"matrix", 4}, {"qkv", 2}, {"embed", 4}, {"mlp", 8}}, DType::kF32};

void build_normalize(Graph& g) {
  normalize_matrices(g, g.input("x", kSample), 2, "y");
}

void build_sum(Graph& g) {
  weighted_sum(g, 0.7, g.input("x", kSample), -1.5, g.input("z", kSample), "y");
}

}  // namespace

const OpDef& normalize_matrices_op() {
  static const OpDef op = {.name = "normalize_matrices",
                           .infer = infer_elementwise,
                           .flops_per_element = 3,
                           .placements = placements_normalize,
                           .reference = reference_normalize,
                           .cpu = {.prepare = cpu_normalize},
                           .cuda = TAKT_CUDA_KERNEL(normalize_matrices),
                           .may_overwrite_input = true,
                           .samples = {{.name = "eight 4 x 8", .build = build_normalize}}};
  return op;
}

const OpDef& weighted_sum_op() {
  static const OpDef op = {.name = "weighted_sum",
                           .infer = infer_alike,
                           .flops_per_element = 3,
                           .placement = {.linear_in = {{PlacementRule::kAll}}},
                           .reference = reference_sum,
                           .cpu = {.prepare = cpu_sum},
                           .cuda = TAKT_CUDA_KERNEL(weighted_sum),
                           .may_overwrite_input = true,
                           .samples = {{.name = "of two", .build = build_sum}}};
  return op;
}

ValueId normalize_matrices(Graph& graph, ValueId x, std::int64_t num_stacked, const std::string& name) {
  return graph.append_one(normalize_matrices_op(), {x}, {{"num_stacked", num_stacked}, {"eps", kEps}}, name);
}

ValueId orthogonalized(Graph& graph, ValueId x, const std::string& name) {
  const Dims dims = graph.value(x).desc.dims;
  TAKT_REQUIRE(dims.size() >= 2, "orthogonalized '", name, "': wants matrices, got ", graph.value(x).desc);
  const Dim &rows = dims[dims.size() - 2], &columns = dims[dims.size() - 1];
  const Axis shorter = rows.extent <= columns.extent ? rows.axis : columns.axis;
  for (int step = 1; step <= kSteps; ++step)
    x = iteration(graph, x, shorter, name + "." + std::to_string(step));
  return x;
}

}  // namespace takt
