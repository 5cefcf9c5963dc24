// The CUDA kernels against the CPU's where the small samples of the contract do not reach: odd sizes, several tiles and
// chunks, addresses that are not aligned.
#include "tests/cuda/as_on_cpu.h"
#include "tests/emulated/control.h"  // whose diagnoses a run reads: not on a GPU

namespace takt {
namespace {

using namespace op_contract;

TEST(OpCudaSizes, ElementwiseOpsTakeAnyNumberOfElements) {
  for (const std::int64_t n : {1, 3, 8, 257, 4099}) {
    const TensorDesc x = f32({{"embed", n}});
    for (const std::string kind : {"silu", "gelu"}) {
      expect_as_on_cpu_in_all_ways({kind, activation_op(), {{"kind", kind}}, {x}});
      expect_as_on_cpu_in_all_ways({kind, activation_grad_op(), {{"kind", kind}}, {x, x}});
    }
    expect_as_on_cpu_in_all_ways({"gated", gated_op(), {}, {x, x}});
    expect_as_on_cpu_in_all_ways({"gated", gated_grad_op(), {}, {x, x, x}});
    expect_as_on_cpu_in_all_ways({"scale", scale_op(), {{"factor", -0.3}}, {x}});
    expect_as_on_cpu_in_all_ways({"accumulate", accumulate_op(), {}, {x, x}});
    expect_as_on_cpu_in_all_ways({"assign", assign_op(), {}, {x, x}});
    expect_as_on_cpu_in_all_ways({"sum", sum_squares_op(), {}, {x}});
    expect_as_on_cpu_in_all_ways({"fill", fill_op(), {{"dims", x.dims}, {"value", 2.5}}, {}});
    for (const DType to : {DType::kF32, DType::kBF16})
      expect_as_on_cpu_in_all_ways({"cast", cast_op(), {{"to", to}}, {x}});
  }
}

TEST(OpCudaSizes, TermsOfASumRepeatAtAnyPeriod) {
  for (const std::int64_t width : {1, 7, 8, 24}) {
    const Dims full = {{"batch", 3}, {"seq", 5}, {"embed", width}};
    expect_as_on_cpu_in_all_ways(
        {std::to_string(width),
         add_op(),
         {},
         {f32(full), f32({{"embed", width}}), f32(full), f32({{"seq", 5}, {"embed", width}}), f32({})}});
  }
}

TEST(OpCudaSizes, RowsOfAnyWidth) {
  for (const std::int64_t width : {1, 5, 96, 1023, 1024, 1500, 3001}) {
    const Dims dims = {{"batch", 5}, {"embed", width}}, row = {{"embed", width}}, column = {{"batch", 5}};
    const std::string name = std::to_string(width);
    expect_as_on_cpu_in_all_ways({name, softmax_op(), {}, {f32(dims)}});
    expect_as_on_cpu_in_all_ways({name, softmax_grad_op(), {}, {f32(dims), f32(dims)}});
    for (const bool centered : {false, true}) {
      std::vector<TensorDesc> inputs = {f32(dims), f32(row)};
      if (centered) inputs.push_back(f32(row));
      expect_as_on_cpu_in_all_ways({name, norm_op(), {{"eps", 1e-5}}, inputs});
      expect_as_on_cpu_in_all_ways({.name = name,
                                    .op = norm_grad_op(),
                                    .attrs = {{"centered", centered}},
                                    .inputs = {f32(dims), f32(dims), f32(row), f32(column), f32(column)},
                                    .positive = {4}});
    }
  }
}

// More rows than one chunk takes, so that chunks are joined.
TEST(OpCudaSizes, SumsOverManyRows) {
  const Dims dims = {{"batch", 777}, {"embed", 37}}, row = {{"embed", 37}}, column = {{"batch", 777}};
  expect_as_on_cpu_in_all_ways({.name = "777 rows",
                                .op = norm_grad_op(),
                                .attrs = {{"centered", true}},
                                .inputs = {f32(dims), f32(dims), f32(row), f32(column), f32(column)},
                                .positive = {4}});
  expect_as_on_cpu_in_all_ways({"sum of 100003", sum_squares_op(), {}, {f32({{"embed", 100003}})}});
}

TEST(OpCudaSizes, ReductionsOfAnyShape) {
  for (const std::string op : {"sum", "max"})
    for (const Use& use : reductions(op)) expect_as_on_cpu_in_all_ways(use);
}

TEST(OpCudaSizes, BroadcastsOfAnyShape) {
  const Dims dims = {{"batch", 3}, {"seq", 5}, {"embed", 24}}, odd = {{"batch", 3}, {"seq", 5}, {"embed", 7}};
  for (const Dims& to : {dims, odd})
    for (const Dims& from : {Dims{}, Dims{to[0]}, Dims{to[0], to[1]}, Dims{to[2]}, Dims{to[0], to[2]}})
      expect_as_on_cpu_in_all_ways({to_string(from), broadcast_op(), {{"dims", to}}, {f32(from)}});
}

TEST(OpCudaSizes, StacksOfAnyRun) {
  for (const std::int64_t width : {1, 3, 8}) {
    const Dims part = {{"batch", 5}, {"head_dim", width}};
    expect_as_on_cpu_in_all_ways({"stack",
                                  stack_op(),
                                  {{"axis", Axis("qkv")}, {"position", std::int64_t{1}}},
                                  {f32(part), f32(part), f32(part)}});
    expect_as_on_cpu_in_all_ways({"unstack",
                                  unstack_op(),
                                  {{"axis", Axis("qkv")}},
                                  {f32({{"batch", 5}, {"qkv", 3}, {"head_dim", width}})}});
  }
}

TEST(OpCudaSizes, RotationsOfAnyWidth) {
  for (const std::int64_t half : {1, 3, 8, 32})
    for (const bool inverse : {false, true})
      expect_as_on_cpu_in_all_ways({std::to_string(half),
                                    rotary_op(),
                                    {{"inverse", inverse}},
                                    {f32({{"batch", 2}, {"seq", 5}, {"heads", 3}, {"head_dim", 2 * half}}),
                                     f32({{"seq", 5}, {"turn", 2}, {"pair", half}})}});
  expect_as_on_cpu({.name = "table of a shard",
                    .op = rotary_table_op(),
                    .attrs = {{"dims", Dims{{"seq", 300}, {"turn", 2}, {"pair", 5}}}, {"theta", 10000.0}},
                    .inputs = {},
                    .ranges = {{"seq", 5000, 300, 6000}}});
}

// Tokens fill a part of a tile, several tiles, and rows that many tokens share; some are not this rank's.
TEST(OpCudaSizes, EmbeddingsOfAnyNumberOfTokens) {
  for (const std::int64_t num_tokens : {1, 37, 2048, 2049, 9000})
    for (const std::int64_t width : {3, 8, 136}) {
      if (num_tokens > 2049 && width > 8) continue;  // many blocks
      const TensorDesc tokens{{{"batch", num_tokens}}, DType::kI32};
      const Dims table = {{"vocab", 11}, {"embed", width}};
      const std::vector<AxisRange> ranges = {{"vocab", 22, 9, 31}};
      expect_as_on_cpu_in_all_ways({.name = "look-up",
                                    .op = embedding_op(),
                                    .attrs = {},
                                    .inputs = {f32(table), tokens},
                                    .ranges = ranges,
                                    .index_bound = 35});
      expect_as_on_cpu_in_all_ways({.name = "gradient",
                                    .op = embedding_grad_op(),
                                    .attrs = {{"table", table}},
                                    .inputs = {f32({{"batch", num_tokens}, {"embed", width}}), tokens},
                                    .ranges = ranges,
                                    .index_bound = 35});
    }
}

struct Product {
  std::int64_t m, n, k;
};

// Shapes that the library's epilogues take, and such that they do not.
TEST(OpCudaSizes, ProductsOfAnyShape) {
  for (const Product p : {Product{1, 1, 1}, Product{5, 7, 3}, Product{4, 16, 8}, Product{33, 24, 17}})
    for (const std::string activation : {"", "gelu", "silu"})
      for (const bool has_bias : {false, true})
        for (const DType dtype : {DType::kF32, DType::kBF16})
          for (const DType out : {DType::kF32, dtype}) {
            Use use{concat(p.m, " ", p.n, " ", p.k, activation),
                    matmul_op(),
                    {{"out", AxisNames{"batch", "mlp"}}, {"activation", activation}, {"out_dtype", out}},
                    {{{{"batch", p.m}, {"embed", p.k}}, dtype}, {{{"embed", p.k}, {"mlp", p.n}}, dtype}}};
            if (has_bias) use.inputs.push_back(f32({{"mlp", p.n}}));
            expect_as_on_cpu(use);
          }
}

// Kernels of the same node give the same bits, however often they run.
TEST(OpCudaSizes, GivesTheSameBitsInEveryRun) {
  const TensorDesc tokens{{{"batch", 3000}}, DType::kI32};
  const Use use{.name = "gradient",
                .op = embedding_grad_op(),
                .attrs = {{"table", Dims{{"vocab", 5}, {"embed", 9}}}},
                .inputs = {f32({{"batch", 3000}, {"embed", 9}}), tokens},
                .index_bound = 5};
  const auto first = on_gpu(use, 0);
  for (const auto order : {emulated::ThreadOrder::kReverse, emulated::ThreadOrder::kRandom}) {
    emulated::Settings settings = emulated::settings();
    settings.thread_order = order;
    emulated::configure(settings);
    EXPECT_EQ(on_gpu(use, 0), first);
  }
  emulated::reset();
}

}  // namespace
}  // namespace takt
