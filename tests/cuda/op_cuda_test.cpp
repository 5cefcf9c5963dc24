// The CUDA kernels of all ops and optimizer updates on the emulated device: what op_contract.h says of every op, and against
// the CPU's kernels what its small samples do not reach: odd sizes, several tiles and chunks, padding, addresses that are not
// aligned.
#include <limits>
#include <map>

#include "core/device/cuda/context.h"
#include "optimizers/adamw.h"
#include "optimizers/lamb.h"
#include "optimizers/lion.h"
#include "optimizers/muon.h"
#include "optimizers/newton_schulz.h"
#include "optimizers/sgd.h"
#include "tests/emulated/control.h"
#include "tests/op_contract.h"

namespace takt {
namespace {

using namespace op_contract;

constexpr std::byte kGuard{0x5A};
constexpr std::size_t kGuardBytes = 256;

void free_device(void* memory) noexcept {
  cudaFree(memory);
}

// A buffer's copy on the device, `shift` bytes behind an aligned address, with guards around it.
class DeviceBuffer {
 public:
  DeviceBuffer(std::size_t num_bytes, std::size_t shift) : num_bytes_(num_bytes), shift_(shift) {
    void* raw = nullptr;
    TAKT_CUDA(cudaMalloc(&raw, shift + num_bytes + 2 * kGuardBytes));
    memory_ = Owned<void*, free_device>(raw);
    const std::vector<std::byte> guard(shift + num_bytes + 2 * kGuardBytes, kGuard);
    TAKT_CUDA(cudaMemcpy(raw, guard.data(), guard.size(), cudaMemcpyHostToDevice));
  }
  std::byte* data() const { return static_cast<std::byte*>(memory_.get()) + kGuardBytes + shift_; }
  void write(const void* from) const {
    TAKT_CUDA(cudaMemcpy(data(), from, num_bytes_, cudaMemcpyHostToDevice));
  }
  void read(void* to) const { TAKT_CUDA(cudaMemcpy(to, data(), num_bytes_, cudaMemcpyDeviceToHost)); }
  bool guards_are_intact() const {
    std::vector<std::byte> all(shift_ + num_bytes_ + 2 * kGuardBytes);
    TAKT_CUDA(cudaMemcpy(all.data(), memory_.get(), all.size(), cudaMemcpyDeviceToHost));
    const auto is_guard = [](std::byte byte) { return byte == kGuard; };
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(kGuardBytes + shift_);
    return std::all_of(all.begin(), first, is_guard) &&
           std::all_of(first + static_cast<std::ptrdiff_t>(num_bytes_), all.end(), is_guard);
  }

 private:
  std::size_t num_bytes_, shift_;
  Owned<void*, free_device> memory_;
};

// The op's CUDA kernel once, with scratch of the size it asks for. Tensors lie `shift` bytes behind aligned addresses.
void run_on_gpu(CudaContext& context, const OpDef& op, KernelNode& node, const std::vector<Buffer*>& inputs,
                const std::vector<Buffer*>& outputs, std::size_t shift = 0) {
  node.cuda = &context;
  std::map<Buffer*, DeviceBuffer> on_device;  // an output in an input's storage is one buffer
  const auto place = [&](Buffer* buffer) -> void* {
    const auto [entry, is_new] = on_device.try_emplace(buffer, buffer->num_bytes(), shift);
    if (is_new) entry->second.write(buffer->data());
    return entry->second.data();
  };
  std::vector<void*> in, out;
  for (Buffer* buffer : inputs) in.push_back(place(buffer));
  for (Buffer* buffer : outputs) out.push_back(place(buffer));
  const std::size_t scratch_bytes = op.cuda.scratch_bytes ? op.cuda.scratch_bytes(node) : 0;
  const DeviceBuffer scratch(scratch_bytes, 0);
  const CudaStream& stream = context.compute_stream();
  op.cuda.prepare(node)({.inputs = in, .outputs = out, .scratch = scratch.data(), .stream = stream.get()});
  stream.synchronize();
  for (Buffer* buffer : outputs) on_device.at(buffer).read(buffer->data());
  for (const auto& [buffer, copy] : on_device)
    EXPECT_TRUE(copy.guards_are_intact()) << op.name << " writes beside a tensor of " << buffer->num_bytes();
  EXPECT_TRUE(scratch.guards_are_intact()) << op.name << " writes beside its scratch of " << scratch_bytes;
  EXPECT_EQ(emulated::all_diagnoses(), "") << op.name;
}

class OpCuda : public testing::TestWithParam<Case> {
 public:
  Device device() {
    return {&OpDef::cuda,
            [this](const OpDef& op, KernelNode& node, const std::vector<Buffer*>& inputs,
                   const std::vector<Buffer*>& outputs) { run_on_gpu(context, op, node, inputs, outputs); }};
  }
  CudaContext context;
};
class OpCudaGradient : public OpCuda {};

TEST_P(OpCuda, EveryPlacementOnAnyNumberOfRanksEqualsTheReference) {
  expect_every_placement(device(), GetParam());
}
TEST_P(OpCudaGradient, IsTheDoubleGradientWithinItsBound) {
  expect_double_gradient(device(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(AllOps, OpCuda, testing::ValuesIn(all_cases(&OpDef::cuda)), name_of_case);
INSTANTIATE_TEST_SUITE_P(InF32, OpCudaGradient,
                         testing::ValuesIn(differentiable_cases(&OpDef::cuda, DType::kF32)), name_of_case);
INSTANTIATE_TEST_SUITE_P(InBF16, OpCudaGradient,
                         testing::ValuesIn(differentiable_cases(&OpDef::cuda, DType::kBF16)), name_of_case);

TEST(OpCudaRegistry, EveryOpThatTheCpuComputesHasAKernel) {
  for (const OpDef* op : op_registry()) EXPECT_NE(op->cuda.prepare, nullptr) << op->name;
  for (const OptimizerDef& optimizer : optimizer_registry())
    for (const OpDef* op : optimizer.ops) EXPECT_NE(op->cuda.prepare, nullptr) << op->name;
}

// ---- Against the CPU's kernels. ----

// One node. Its inputs are random, i32 ones below `index_bound`, those in `positive` above 0.5.
struct Use {
  std::string name;
  const OpDef& op;
  Attrs attrs;
  std::vector<TensorDesc> inputs;
  std::vector<AxisRange> ranges = {};
  std::int64_t index_bound = 1;
  std::vector<std::size_t> positive = {};
  std::map<std::size_t, double> constants = {};  // inputs that are not random
};

double element_of(const Use& use, std::size_t input, const RandomStream& random, std::uint64_t at) {
  if (const auto constant = use.constants.find(input); constant != use.constants.end())
    return constant->second;
  if (use.inputs[input].dtype == DType::kI32)
    return static_cast<double>(random.below(at, static_cast<std::uint64_t>(use.index_bound)));
  const auto normal = static_cast<double>(random.normal(at));
  const bool positive = std::find(use.positive.begin(), use.positive.end(), input) != use.positive.end();
  return positive ? 0.5 + normal * normal : normal;
}

using RunNode = std::function<void(KernelNode& node, const std::vector<Buffer*>& inputs,
                                   const std::vector<Buffer*>& outputs)>;

std::vector<std::vector<double>> outputs_of(const Use& use, const RunNode& run) {
  KernelNode node{{use.name, use.attrs, use.inputs, {}}};
  node.outputs = use.op.infer(node);
  node.ranges = use.ranges;
  std::deque<Buffer> buffers;
  std::vector<Buffer*> inputs, outputs;
  for (std::size_t i = 0; i < use.inputs.size(); ++i) {
    inputs.push_back(&buffers.emplace_back(use.inputs[i]));
    const RandomStream random(23, std::to_string(i));
    for (std::int64_t e = 0; e < use.inputs[i].num_elements(); ++e)
      inputs.back()->set(static_cast<std::size_t>(e),
                         element_of(use, i, random, static_cast<std::uint64_t>(e)));
  }
  for (std::size_t o = 0; o < node.outputs.size(); ++o) {
    Buffer* storage = &buffers.emplace_back(node.outputs[o]);
    for (const auto& [output, input] : use.op.in_place)
      if (output == static_cast<int>(o)) storage = inputs[static_cast<std::size_t>(input)];
    outputs.push_back(storage);
  }
  run(node, inputs, outputs);
  std::vector<std::vector<double>> results;
  for (const Buffer* output : outputs) results.push_back(output->elements());
  return results;
}

std::vector<std::vector<double>> on_cpu(const Use& use) {
  return outputs_of(
      use, [&](KernelNode& node, const auto& in, const auto& out) { run_kernel(use.op, node, in, out); });
}
std::vector<std::vector<double>> on_gpu(const Use& use, std::size_t shift) {
  CudaContext context;
  return outputs_of(use, [&](KernelNode& node, const auto& in, const auto& out) {
    run_on_gpu(context, use.op, node, in, out, shift);
  });
}

void expect_as_on_cpu(const Use& use, std::size_t shift = 0) {
  const auto found = on_gpu(use, shift), wanted = on_cpu(use);
  const std::vector<TensorDesc> outputs = use.op.infer({use.name, use.attrs, use.inputs, {}});
  for (std::size_t o = 0; o < wanted.size(); ++o) {
    double most = 1e-3;
    for (const double x : wanted[o]) most = std::max(most, std::abs(x));
    for (std::size_t i = 0; i < wanted[o].size(); ++i)
      ASSERT_NEAR(found[o][i], wanted[o][i], tolerance(outputs[o].dtype) * most)
          << use.op.name << " " << use.name << " shifted by " << shift << ", output " << o << ", element "
          << i;
  }
}

TensorDesc f32(const Dims& dims) {
  return {dims, DType::kF32};
}

// In f32 and, where both devices take it, in bf16; aligned, and not.
void expect_as_on_cpu_in_all_ways(Use use) {
  expect_as_on_cpu(use);
  expect_as_on_cpu(use, 4);
  if (!use.op.cpu.bf16 || !use.op.cuda.bf16) return;
  const std::vector<std::size_t>& stay = use.op.f32_inputs;
  for (std::size_t i = 0; i < use.inputs.size(); ++i)
    if (use.inputs[i].dtype == DType::kF32 && std::find(stay.begin(), stay.end(), i) == stay.end())
      use.inputs[i].dtype = DType::kBF16;
  expect_as_on_cpu(use);
  expect_as_on_cpu(use, 2);
}

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

// Rows that come last, in the middle and first, one chunk and several, packs and single elements.
std::vector<Use> reductions(const std::string& op) {
  const AxisNames batch = {"batch"}, seq = {"seq"}, embed = {"embed"}, all = {"batch", "seq", "embed"};
  std::vector<Use> uses;
  struct Shape {
    Dims dims;
    AxisNames axes;
  };
  for (const Shape& shape :
       {Shape{{{"batch", 3}, {"embed", 4099}}, embed}, Shape{{{"batch", 2}, {"embed", 9000}}, embed},
        Shape{{{"batch", 3}, {"embed", 7}}, embed}, Shape{{{"batch", 300}, {"embed", 24}}, batch},
        Shape{{{"batch", 300}, {"embed", 130}}, batch}, Shape{{{"batch", 3}, {"seq", 70}, {"embed", 9}}, seq},
        Shape{{{"batch", 3}, {"seq", 5}, {"embed", 9}}, all}})
    uses.push_back(
        {op + to_string(shape.dims), reduce_op(), {{"axes", shape.axes}, {"op", op}}, {f32(shape.dims)}});
  return uses;
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

// A shard of a vocabulary that ends in padding, begins after others, or is padding only.
TEST(OpCudaPadding, TakesNoPartInLosses) {
  for (const std::int64_t width : {8, 24, 1500})
    for (const std::int64_t num_valid : {std::int64_t{0}, width / 2 + 1, width}) {
      const std::vector<AxisRange> ranges = {{"vocab", 2 * width, num_valid, 2 * width + num_valid}};
      const TensorDesc logits = f32({{"batch", 5}, {"vocab", width}}), token = f32({{"batch", 5}}),
                       targets{{{"batch", 5}}, DType::kI32};
      const auto use = [&](const OpDef& op, const std::vector<TensorDesc>& inputs) {
        return Use{std::to_string(num_valid), op, {}, inputs, ranges, 3 * width, {3}};
      };
      expect_as_on_cpu_in_all_ways(use(sum_exp_op(), {logits, token}));
      expect_as_on_cpu_in_all_ways(use(pick_op(), {logits, targets}));
      expect_as_on_cpu_in_all_ways(use(cross_entropy_op(), {logits, targets, token, token, token}));
      expect_as_on_cpu_in_all_ways(use(cross_entropy_grad_op(), {logits, targets, token, token, token}));
    }
}

TEST(OpCudaPadding, DoesNotCountInReductions) {
  for (const std::string op : {"sum", "max"})
    for (Use use : reductions(op)) {
      const Axis axis = use.attrs.axes("axes").front();
      const std::int64_t extent = use.inputs[0].extent(axis);
      for (const std::int64_t num_valid : {extent / 2 + 1, extent - 1}) {
        use.ranges = {{axis, extent, num_valid, extent + num_valid}};
        expect_as_on_cpu_in_all_ways(use);
      }
    }
  const Dims dims = {{"batch", 3}, {"seq", 5}, {"embed", 8}};
  expect_as_on_cpu_in_all_ways({.name = "inner axis",
                                .op = reduce_op(),
                                .attrs = {{"axes", AxisNames{"seq", "embed"}}, {"op", std::string("max")}},
                                .inputs = {f32(dims)},
                                .ranges = {{"embed", 8, 3, 11}}});
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

// A step, and one that is refused since its gradient's norm is not finite.
TEST(OpCudaSizes, UpdatesOfAnyNumberOfElements) {
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
    const Use lion{.name = "lion",
                   .op = lion_op(),
                   .attrs = {{"beta1", 0.9}, {"beta2", 0.99}, {"decay", 0.1}},
                   .inputs = {p, p, p, hyper, factor},
                   .constants = {{4, value}}};
    const Use lamb_direction{.name = "lamb_direction",
                             .op = lamb_direction_op(),
                             .attrs = {{"beta1", 0.9}, {"beta2", 0.95}, {"eps", 1e-8}, {"decay", 0.1}},
                             .inputs = {p, p, p, p, hyper, factor},
                             .positive = {3, 4},
                             .constants = {{5, value}}};
    const Use lamb{.name = "lamb",
                   .op = lamb_op(),
                   .attrs = {},
                   .inputs = {p, p, f32({{"norm", 2}}), hyper, factor},
                   .positive = {2},
                   .constants = {{4, value}}};
    const Use muon_direction{.name = "muon_direction",
                             .op = muon_direction_op(),
                             .attrs = {{"momentum", 0.95}},
                             .inputs = {p, p, factor},
                             .constants = {{2, value}}};
    const Use muon{.name = "muon",
                   .op = muon_op(),
                   .attrs = {{"scale", 0.6}, {"decay", 0.1}, {"index", std::int64_t{1}}},
                   .inputs = {p, f32({{"matrix", 3}, {"embed", 1003}}), hyper, factor},
                   .constants = {{3, value}}};
    for (const Use& use : {adamw, sgd, lion, lamb_direction, lamb, muon_direction, muon})
      for (const std::size_t shift : {0, 4}) expect_as_on_cpu(use, shift);
  }
}

// Shorter than a block, and several blocks a matrix; small gradients too.
TEST(OpCudaSizes, NormalizesMatricesOfAnySize) {
  for (const std::int64_t columns : {1, 37, 5001})
    for (const std::size_t shift : {0, 4})
      expect_as_on_cpu({.name = concat("3 of 2 x ", columns),
                        .op = normalize_matrices_op(),
                        .attrs = {{"num_stacked", std::int64_t{1}}, {"eps", 1e-7}},
                        .inputs = {f32({{"matrix", 3}, {"rows", 2}, {"columns", columns}})}},
                       shift);
}

// A node with one more output has the new parameter there in bf16.
TEST(OpCudaSizes, AnUpdateWritesACopyInTheSamePass) {
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
