// The CUDA kernels of optimizer updates against the CPU's.
#include <limits>

#include "optimizers/adamw.h"
#include "optimizers/lamb.h"
#include "optimizers/lion.h"
#include "optimizers/muon.h"
#include "optimizers/newton_schulz.h"
#include "optimizers/sgd.h"
#include "tests/cuda/as_on_cpu.h"
#include "tests/emulated/control.h"  // whose diagnoses a run reads: not on a GPU

namespace takt {
namespace {

using namespace op_contract;

// One update of 1003 elements; its last input is the factor of clipping.
std::vector<Use> updates(double factor) {
  const TensorDesc p = f32({{"embed", 1003}}), hyper = f32({{"hyper", 3}}), number = f32({});
  return {{.name = "adamw",
           .op = adamw_op(),
           .attrs = {{"beta1", 0.9}, {"beta2", 0.95}, {"eps", 1e-8}, {"decay", 0.1}},
           .inputs = {p, p, p, p, hyper, number},
           .positive = {3, 4},
           .constants = {{5, factor}}},
          {.name = "sgd",
           .op = sgd_op(),
           .attrs = {{"momentum", 0.9}, {"decay", 0.1}},
           .inputs = {p, p, p, hyper, number},
           .constants = {{4, factor}}},
          {.name = "lion",
           .op = lion_op(),
           .attrs = {{"beta1", 0.9}, {"beta2", 0.99}, {"decay", 0.1}},
           .inputs = {p, p, p, hyper, number},
           .constants = {{4, factor}}},
          {.name = "lamb_direction",
           .op = lamb_direction_op(),
           .attrs = {{"beta1", 0.9}, {"beta2", 0.95}, {"eps", 1e-8}, {"decay", 0.1}},
           .inputs = {p, p, p, p, hyper, number},
           .positive = {3, 4},
           .constants = {{5, factor}}},
          {.name = "lamb",
           .op = lamb_op(),
           .attrs = {},
           .inputs = {p, p, f32({{"norm", 2}}), hyper, number},
           .positive = {2},
           .constants = {{4, factor}}},
          {.name = "muon_direction",
           .op = muon_direction_op(),
           .attrs = {{"momentum", 0.95}},
           .inputs = {p, p, number},
           .constants = {{2, factor}}},
          {.name = "muon",
           .op = muon_op(),
           .attrs = {{"scale", 0.6}, {"decay", 0.1}, {"index", std::int64_t{1}}},
           .inputs = {p, f32({{"matrix", 3}, {"embed", 1003}}), hyper, number},
           .constants = {{3, factor}}}};
}

// A step, and one that is refused since its gradient's norm is not finite.
TEST(OptimizerCuda, UpdatesAnyNumberOfElements) {
  for (const double factor : {0.5, std::numeric_limits<double>::quiet_NaN()})
    for (const Use& use : updates(factor))
      for (const std::size_t shift : {0, 4}) expect_as_on_cpu(use, shift);
}

// Shorter than a block, and several blocks a matrix; small gradients too.
TEST(OptimizerCuda, NormalizesMatricesOfAnySize) {
  for (const std::int64_t columns : {1, 37, 5001})
    for (const std::size_t shift : {0, 4})
      expect_as_on_cpu({.name = concat("3 of 2 x ", columns),
                        .op = normalize_matrices_op(),
                        .attrs = {{"num_stacked", std::int64_t{1}}, {"eps", 1e-7}},
                        .inputs = {f32({{"matrix", 3}, {"rows", 2}, {"columns", columns}})}},
                       shift);
}

// A node with one more output has the new parameter there in bf16.
TEST(OptimizerCuda, WritesACopyInTheSamePass) {
  const TensorDesc p = f32({{"embed", 1003}});
  const Use use{.name = "sgd",
                .op = sgd_op(),
                .attrs = {{"momentum", 0.9}, {"decay", 0.1}},
                .inputs = {p, p, p, f32({{"hyper", 3}}), f32({})}};
  CudaContext context;
  Buffer copy({p.dims, DType::kBF16});
  const auto results = outputs_of(use, [&](KernelNode& node, const auto& in, auto out) {
    node.outputs.push_back({p.dims, DType::kBF16});
    out.push_back(&copy);
    run_on_gpu(context, use.op, node, in, out);
  });
  for (std::size_t i = 0; i < results[0].size(); ++i)
    ASSERT_EQ(copy.get(i), rounded(results[0][i], DType::kBF16)) << i;
}

}  // namespace
}  // namespace takt
