// The CUDA kernels of optimizer updates against the CPU's.
#include <limits>

#include "optimizers/adamw.h"
#include "optimizers/sgd.h"
#include "tests/cuda/as_on_cpu.h"
#include "tests/emulated/control.h"  // whose diagnoses a run reads: not on a GPU

namespace takt {
namespace {

using namespace op_contract;

// A step, and one that is refused since its gradient's norm is not finite.
TEST(OptimizerCuda, UpdatesAnyNumberOfElements) {
  const TensorDesc p = f32({{"embed", 1003}}), hyper = f32({{"hyper", 3}}), factor = f32({});
  for (const double value : {0.5, std::numeric_limits<double>::quiet_NaN()}) {
    const Use adamw{.name = "adamw",
                    .op = adamw_op(),
                    .attrs = {{"beta1", 0.9}, {"beta2", 0.95}, {"eps", 1e-8}, {"decay", 0.1}},
                    .inputs = {p, p, p, p, hyper, factor},
                    .positive = {3, 4},
                    .constants = {{5, value}}};
    const Use sgd{.name = "sgd",
                  .op = sgd_op(),
                  .attrs = {{"momentum", 0.9}, {"decay", 0.1}},
                  .inputs = {p, p, p, hyper, factor},
                  .constants = {{4, value}}};
    for (const Use& use : {adamw, sgd})
      for (const std::size_t shift : {0, 4}) expect_as_on_cpu(use, shift);
  }
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
