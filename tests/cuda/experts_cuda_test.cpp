// Mixtures of experts on GPUs: the kernels of routing and dispatch against the CPU's, at sizes that fill several blocks,
// stretches of picks and packs, and trainings whose experts are shared.
#include "tests/cuda/cuda_test.h"
#include "tests/cuda/device_tensor.h"
#include "tests/cuda/small_training.h"
#include "tests/op_contract.h"

namespace takt {
namespace {

using namespace op_contract;

struct Sizes {
  std::int64_t batch, seq, experts, picks, capacity, embed;
};
void PrintTo(const Sizes& sizes, std::ostream* out) {
  *out << sizes.seq << " tokens pick " << sizes.picks << " of " << sizes.experts << ", " << sizes.embed
       << " wide";
}

// Every kernel once, also those of gradients.
Graph all_kernels(const Sizes& s, DType dtype) {
  Graph g;
  const Dim batch{"batch", s.batch}, seq{"seq", s.seq};
  const ValueId logits = g.input("logits", {{batch, seq, {"choice", s.experts}}, DType::kF32}),
                x = g.input("x", {{batch, seq, {"embed", s.embed}}, dtype}),
                dloss = g.input("dloss", {{batch, seq}, DType::kF32});
  const Routes routes = route(g, logits, s.picks, s.capacity, "routes");
  router_loss(g, logits, routes.load, 0.5, 0.3, "loss");
  g.append_one(router_loss_grad_op(), {logits, routes.load, dloss}, {{"balance", 0.5}, {"z", 0.3}}, "d.loss");
  const ValueId plain = dispatch(g, x, routes.slots, s.experts, s.capacity, "plain"),
                weighted = dispatch(g, x, routes.slots, s.experts, s.capacity, "weighted", routes.weights);
  combine(g, plain, routes.slots, {}, "tokens");
  combine(g, weighted, routes.slots, routes.weights, "weighted tokens");
  const ValueId dweights = g.append_one(slot_dot_op(), {weighted, routes.slots, x}, {}, "d.weights");
  g.append_one(route_grad_op(), {routes.weights, routes.slots, dweights},
               {{"choices", s.experts}, {"capacity", s.capacity}}, "d.logits");
  return g;
}

class ExpertsCuda : public CudaTest, public testing::WithParamInterface<Sizes> {};

TEST_P(ExpertsCuda, AreAsOnTheCpu) {
  CudaContext context;
  const Device cpu{&OpDef::cpu, [](const OpDef&op, KernelNode&node, const auto&in,
                                   const auto&out) { run_kernel(op, node, in, out); }},
      gpu{&OpDef::cuda, [&](const OpDef&op, KernelNode&node, const auto&in, const auto&out) {
            std::vector<std::vector<double>> data;
            for (const Buffer* input : in) data.push_back(input->elements());
            const auto results = run_cuda_kernel(op, node, context, data);
            for (std::size_t o = 0; o < out.size(); ++o)
              for (std::size_t i = 0; i < results[o].size(); ++i) out[o]->set(i, results[o][i]);
          }};
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Graph graph = all_kernels(GetParam(), dtype);
    const Arrays inputs = random_inputs(graph, {});
    const std::vector<Array> wanted = run_nodes(cpu, graph, inputs), found = run_nodes(gpu, graph, inputs);
    for (std::size_t v = 0; v < wanted.size(); ++v) {
      double most = 1e-3;
      for (const double element : wanted[v].data) most = std::max(most, std::abs(element));
      for (std::size_t i = 0; i < wanted[v].data.size(); ++i)
        ASSERT_NEAR(found[v].data[i], wanted[v].data[i], 2 * tolerance(dtype) * most)
            << graph.values()[v].name << "[" << i << "] in " << dtype;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, ExpertsCuda,
                         testing::Values(Sizes{3, 700, 8, 2, 120, 72}, Sizes{2, 333, 5, 3, 333, 33},
                                         Sizes{1, 64, 40, 4, 7, 1500}, Sizes{2, 1, 2, 2, 1, 8}));

class ExpertTraining : public CudaTest {};

TEST_F(ExpertTraining, OnAnyMeshOfGpusIsThatOnCpus) {
  const SmallModel model = small_gpt("Mixtral", {.layers = 2,
                                                 .embed = 16,
                                                 .heads = 4,
                                                 .kv_heads = 2,
                                                 .mlp = 20,
                                                 .vocab = kVocab,
                                                 .seq = kSeq,
                                                 .experts = 4});
  for (const auto& [data, expert, tensor] :
       {std::tuple(1, 1, 1), {1, 2, 1}, {1, 4, 1}, {2, 2, 1}, {1, 2, 2}}) {
    SCOPED_TRACE(concat("data=", data, " expert=", expert, " tensor=", tensor));
    SmallTraining training{.step = {.global_batch = 8, .micro_batch = 2, .steps = 3, .grad_clip = 0.8},
                           .data = data,
                           .expert = expert,
                           .tensor = tensor};
    training.step.optimizer.lr = 0.01;
    training.step.optimizer.eps = 1e-5;
    const Trained found = SmallRun(model, training, DeviceKind::kCuda)(),
                  wanted = SmallRun(model, training, DeviceKind::kCpu)();
    for (std::size_t i = 0; i < wanted.losses.size(); ++i)
      EXPECT_NEAR(found.losses[i], wanted.losses[i], 2e-5 * wanted.losses[i]) << "loss " << i;
    for (const auto& [name, weights] : wanted.weights)
      for (std::size_t i = 0; i < weights.size(); ++i)
        ASSERT_NEAR(found.weights.at(name).at(i), weights[i], 2e-3) << name << "[" << i << "]";
  }
}

}  // namespace
}  // namespace takt
