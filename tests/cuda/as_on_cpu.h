// One node on both devices: the CUDA kernel must give what the CPU's gives.
#pragma once

#include "tests/cuda/run_on_gpu.h"

namespace takt::op_contract {

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

inline double element_of(const Use& use, std::size_t input, const RandomStream& random, std::uint64_t at) {
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

inline std::vector<std::vector<double>> outputs_of(const Use& use, const RunNode& run) {
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

inline std::vector<std::vector<double>> on_cpu(const Use& use) {
  return outputs_of(
      use, [&](KernelNode& node, const auto& in, const auto& out) { run_kernel(use.op, node, in, out); });
}
inline std::vector<std::vector<double>> on_gpu(const Use& use, std::size_t shift) {
  CudaContext context;
  return outputs_of(use, [&](KernelNode& node, const auto& in, const auto& out) {
    run_on_gpu(context, use.op, node, in, out, shift);
  });
}

inline void expect_as_on_cpu(const Use& use, std::size_t shift = 0) {
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

inline TensorDesc f32(const Dims& dims) {
  return {dims, DType::kF32};
}

// In f32 and, where both devices take it, in bf16; aligned, and not.
inline void expect_as_on_cpu_in_all_ways(Use use) {
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

// Rows that come last, in the middle and first, one chunk and several, packs and single elements.
inline std::vector<Use> reductions(const std::string& op) {
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

}  // namespace takt::op_contract
