// Attention on a GPU against the CPU's kernels: by cuDNN, by our own kernels, and which of the two a node gets.
#include <gmock/gmock.h>

#include "core/base/rng.h"
#include "core/ops/attention_cuda.h"
#include "core/ops/builders.h"
#include "tests/cuda/cuda_test.h"
#include "tests/cuda/device_tensor.h"
#include "tests/tolerance.h"

namespace takt {
namespace {

using CudaAttention = CudaTest;

struct Shape {
  const char* name;
  std::int64_t seq, heads, kv_heads, width;
  // A rank of several: its query heads begin here, of so many; all key heads of the model are with it.
  std::int64_t first_head = 0, num_heads = 0;
};

TensorDesc desc(const char* heads_axis, std::int64_t seq, std::int64_t heads, std::int64_t width,
                DType dtype) {
  return {{{"batch", 2}, {"seq", seq}, {heads_axis, heads}, {"head_dim", width}}, dtype};
}

std::vector<double> random_elements(const TensorDesc& desc, const std::string& name) {
  const RandomStream random(7, name);
  std::vector<double> values(static_cast<std::size_t>(desc.num_elements()));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = rounded(static_cast<double>(random.normal(i)), desc.dtype);
  return values;
}

// A node of attention or its gradient and random inputs; the statistics are those of the CPU's forward.
struct Problem {
  Problem(const Shape& shape, DType dtype, bool backward);
  std::vector<std::vector<double>> on_cpu() { return run(node, data); }

  const OpDef& op;
  const std::string name = "attention under test";
  const Attrs attrs;
  KernelNode node;
  std::vector<std::vector<double>> data;

 private:
  std::vector<std::vector<double>> run(KernelNode of, const std::vector<std::vector<double>>& inputs) const;
};

std::vector<std::vector<double>> Problem::run(KernelNode of,
                                              const std::vector<std::vector<double>>& inputs) const {
  const OpDef& run_op = inputs.size() == 3 ? attention_op() : attention_grad_op();
  of.outputs = run_op.infer(of);
  std::deque<Buffer> buffers;
  std::vector<Buffer*> in, out;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    in.push_back(&buffers.emplace_back(of.inputs[i]));
    for (std::size_t e = 0; e < inputs[i].size(); ++e) in.back()->set(e, inputs[i][e]);
  }
  for (const TensorDesc& output : of.outputs) out.push_back(&buffers.emplace_back(output));
  run_kernel(run_op, of, in, out);
  std::vector<std::vector<double>> results;
  for (const Buffer* buffer : out) results.push_back(buffer->elements());
  return results;
}

Problem::Problem(const Shape& s, DType dtype, bool backward)
    : op(backward ? attention_grad_op() : attention_op()), node{{name, attrs, {}, {}}} {
  const TensorDesc q = desc("heads", s.seq, s.heads, s.width, dtype),
                   k = desc("kv_heads", s.seq, s.kv_heads, s.width, dtype);
  node.inputs = {q, k, k};
  data = {random_elements(q, "q"), random_elements(k, "k"), random_elements(k, "v")};
  if (s.num_heads > 0) node.ranges.push_back({"heads", s.first_head, s.heads, s.num_heads});
  if (!backward) return;
  const std::vector<std::vector<double>> forward = run(node, data);
  const TensorDesc lse{{q.dims[0], q.dims[1], q.dims[2]}, DType::kF32};
  node.inputs = {q, q, k, k, q, lse};
  data = {random_elements(q, "dy"), data[0], data[1], data[2], forward[0], forward[1]};
}

double largest(const std::vector<double>& values) {
  double most = 1e-3;
  for (const double x : values) most = std::max(most, std::abs(x));
  return most;
}

// `factor`: how much more than one rounding at the end may go wrong.
void expect_as_on_cpu(const Shape& shape, DType dtype, double factor = 1) {
  for (const bool backward : {false, true}) {
    CudaContext context;
    Problem problem(shape, dtype, backward);
    const auto wanted = problem.on_cpu(),
               found = run_cuda_kernel(problem.op, problem.node, context, problem.data);
    ASSERT_EQ(found.size(), wanted.size());
    for (std::size_t o = 0; o < wanted.size(); ++o) {
      const bool statistics = !backward && o == 1;
      const double bound = factor * tolerance(statistics ? DType::kF32 : dtype) * largest(wanted[o]);
      for (std::size_t i = 0; i < wanted[o].size(); ++i)
        ASSERT_NEAR(found[o][i], wanted[o][i], bound)
            << shape.name << " in " << dtype << (backward ? ", gradient" : "") << ", output " << o
            << ", element " << i;
    }
  }
}

std::string reason(const Shape& shape, DType dtype, bool backward) {
  CudaContext context;
  Problem problem(shape, dtype, backward);
  problem.node.cuda = &context;
  const cuda::AttentionChoice choice = cuda::choose_attention(problem.node, backward);
  return choice.plan ? "cuDNN" : choice.reason;
}

const Shape kWhole{"one key head a query head", 16, 2, 2, 8}, kGrouped{"grouped queries", 70, 4, 2, 16},
    kOdd{"odd sizes", 5, 3, 1, 6}, kWide{"several slices", 65, 2, 1, 136},
    kSharded{"the second half of eight query heads, all two key heads", 33, 4, 2, 8, 4, 8},
    kMiddle{"query heads 2 and 3 of eight, all four key heads", 33, 2, 4, 8, 2, 8},
    kUneven{"three of six query heads, of which key heads have two", 17, 3, 3, 8, 0, 6};

TEST_F(CudaAttention, OwnKernelsEqualTheCpuInF32) {
  for (const Shape& shape : {kWhole, kGrouped, kOdd, kWide, kSharded, kMiddle, kUneven})
    expect_as_on_cpu(shape, DType::kF32);
}

TEST_F(CudaAttention, OwnKernelsEqualTheCpuInBF16) {
  for (const Shape& shape : {kOdd, kUneven}) {
    EXPECT_NE(reason(shape, DType::kBF16, true), "cuDNN");
    expect_as_on_cpu(shape, DType::kBF16);
  }
}

// cuDNN rounds probabilities and the scores' gradients to bf16 before it multiplies them, and dk and dv of every query head
// before it adds them up over a group.
TEST_F(CudaAttention, CudnnEqualsTheCpuInBF16) {
  for (const Shape& shape : {kWhole, kGrouped, kSharded, kMiddle}) {
    EXPECT_EQ(reason(shape, DType::kBF16, false), "cuDNN") << shape.name;
    EXPECT_EQ(reason(shape, DType::kBF16, true), "cuDNN") << shape.name;
    expect_as_on_cpu(shape, DType::kBF16, 2);
  }
}

TEST_F(CudaAttention, SaysWhyItIsNotCudnn) {
  EXPECT_THAT(reason(kWhole, DType::kF32, true), testing::HasSubstr("no gradient in f32"));
  EXPECT_THAT(reason(kUneven, DType::kBF16, false), testing::HasSubstr("share 2 key heads unevenly"));
  EXPECT_FALSE(reason(kOdd, DType::kBF16, false).empty());
  EXPECT_NE(reason(kOdd, DType::kBF16, false), "cuDNN");
}

}  // namespace
}  // namespace takt
