// What every op must satisfy on any device: over all ops and optimizer updates and all their samples, in f32 and, where the
// device's kernel takes it, in bf16. A device's test says how it runs a kernel and calls the expectations.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <functional>

#include "core/base/rng.h"
#include "core/exec/reference.h"
#include "core/ops/builders.h"
#include "core/ops/placement_rules.h"
#include "core/ops/registry.h"
#include "core/passes/autodiff.h"
#include "optimizers/optimizer.h"
#include "tests/run_kernel.h"
#include "tests/tolerance.h"

namespace takt::op_contract {

// Whose kernels are tested, and how one is run.
struct Device {
  DeviceKernel OpDef::*kernels;
  std::function<void(const OpDef& op, KernelNode& node, const std::vector<Buffer*>& inputs,
                     const std::vector<Buffer*>& outputs)>
      run;
};

struct Case {
  const OpDef* op;
  const Sample* sample;
  DType dtype;  // of the sample's floating inputs
};

// Of the ops for which the device has a kernel.
inline std::vector<Case> all_cases(DeviceKernel OpDef::*kernels) {
  std::vector<Case> cases;
  const auto add = [&](const OpDef& op) {
    if ((op.*kernels).prepare == nullptr) return;
    for (const Sample& sample : op.samples) {
      cases.push_back({&op, &sample, DType::kF32});
      if ((op.*kernels).bf16 && &op != &cast_op()) cases.push_back({&op, &sample, DType::kBF16});
    }
  };
  for (const OpDef* op : op_registry()) add(*op);
  for (const OptimizerDef& optimizer : optimizer_registry())
    for (const OpDef* op : optimizer.ops) add(*op);
  return cases;
}

// The maximum is the one reduction without a gradient; a constant has no input to have one for.
inline std::vector<Case> differentiable_cases(DeviceKernel OpDef::*kernels, DType dtype) {
  std::vector<Case> cases;
  for (const Case& test : all_cases(kernels))
    if (test.op->grad != nullptr && test.dtype == dtype && !test.sample->name.starts_with("maximum"))
      cases.push_back(test);
  return cases;
}

inline bool must_be_f32(const Graph& graph, ValueId value) {
  for (const Node& node : graph.nodes())
    for (const std::size_t i : node.op->f32_inputs)
      if (i < node.inputs.size() && node.inputs[i] == value) return true;
  return false;
}

// The sample's graph with inputs of the case's dtype, but for those that ops want in f32.
inline Graph build(const Case& test) {
  Graph sample, graph;
  test.sample->build(sample);
  std::vector<ValueId> mapped(sample.values().size());
  for (std::size_t v = 0; v < mapped.size(); ++v) {
    const Value& value = sample.values()[v];
    if (value.role != Role::kInput) continue;
    TensorDesc desc = value.desc;
    if (test.dtype == DType::kBF16 && is_floating(desc.dtype) && !must_be_f32(sample, {static_cast<int>(v)}))
      desc.dtype = DType::kBF16;
    mapped[v] = graph.input(value.name, desc);
  }
  for (const Node& node : sample.nodes()) {
    std::vector<ValueId> inputs;
    for (const ValueId input : node.inputs) inputs.push_back(mapped[static_cast<std::size_t>(input.index)]);
    const std::vector<ValueId> outputs = graph.append(*node.op, inputs, node.attrs, node.name);
    for (std::size_t o = 0; o < outputs.size(); ++o)
      mapped[static_cast<std::size_t>(node.outputs[o].index)] = outputs[o];
  }
  return graph;
}

inline Arrays random_inputs(const Graph& graph, const Sample& sample) {
  Arrays inputs;
  for (const Value& value : graph.values()) {
    if (value.role != Role::kInput) continue;
    const RandomStream random(7, value.name);
    Array& array = inputs[value.name];
    array.dims = value.desc.dims;
    for (std::int64_t i = 0; i < value.desc.num_elements(); ++i) {
      const auto element = static_cast<std::uint64_t>(i);
      array.data.push_back(
          value.desc.dtype == DType::kI32
              ? static_cast<double>(random.below(element, static_cast<std::uint64_t>(sample.index_bound)))
              : rounded(static_cast<double>(random.normal(element)), value.desc.dtype));
    }
  }
  return inputs;
}

// The elements of `global` that one of `num_ranks` holds when it is sharded along `axis`.
inline std::vector<double> shard(const Array& global, const Axis& axis, int rank, int num_ranks) {
  std::vector<double> part;
  const auto a = static_cast<std::size_t>(find_axis(global.dims, axis));
  std::int64_t inner = 1;
  for (std::size_t d = a + 1; d < global.dims.size(); ++d) inner *= global.dims[d].extent;
  const std::int64_t extent = global.dims[a].extent, local = extent / num_ranks;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(global.data.size()); ++i)
    if (i / inner % extent / local == rank) part.push_back(global.data[static_cast<std::size_t>(i)]);
  return part;
}

inline TensorDesc local_desc(const TensorDesc& desc, const AxisPlacement& placement, int num_ranks) {
  TensorDesc local = desc;
  if (placement.is_sharded())
    local.dims[static_cast<std::size_t>(find_axis(local.dims, placement.axis))].extent /= num_ranks;
  return local;
}

// What `rank` holds of an input: its shard, all of it, or a random summand.
inline std::vector<double> local_input(const Array& global, const AxisPlacement& placement, int rank,
                                       int num_ranks) {
  if (placement.is_sharded()) return shard(global, placement.axis, rank, num_ranks);
  if (placement.is_replicated()) return global.data;
  std::vector<double> part(global.data.size());
  const RandomStream random(11, "summands");
  for (std::size_t i = 0; i < part.size(); ++i) {
    double rest = global.data[i];
    for (int r = 0; r + 1 < num_ranks; ++r) {
      const double summand = random.uniform(i * 64 + static_cast<std::size_t>(r)) - 0.5;
      if (r == rank) part[i] = summand;
      rest -= summand;
    }
    if (rank == num_ranks - 1) part[i] = rest;
  }
  return part;
}

// A node run by the device's kernel as one of `num_ranks` would with this signature; `values` are the global ones.
class RankRun {
 public:
  RankRun(const Device& device, const Graph& graph, const Node& node, const std::vector<Array>& values,
          const OpPlacement& signature, int rank, int num_ranks) {
    const OpArgs global = graph.args_of(node);
    Attrs attrs = node.attrs;
    for (auto& [name, attr] : attrs.entries())
      if (Dims* dims = std::get_if<Dims>(&attr))
        *dims = local_desc({*dims, DType::kF32}, signature.outputs[0], num_ranks).dims;
    KernelNode view{{node.name, attrs, {}, {}}};
    std::deque<Buffer> buffers;
    std::vector<Buffer*> inputs, outputs;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      view.inputs.push_back(local_desc(global.inputs[i], signature.inputs[i], num_ranks));
      Buffer* buffer = inputs.emplace_back(&buffers.emplace_back(view.inputs.back()));
      const std::vector<double> data = local_input(values[static_cast<std::size_t>(node.inputs[i].index)],
                                                   signature.inputs[i], rank, num_ranks);
      for (std::size_t e = 0; e < data.size(); ++e) buffer->set(e, data[e]);
      given_.push_back(buffer->elements());
      add_range(view, global.inputs[i], signature.inputs[i], rank, num_ranks);
    }
    view.outputs = node.op->infer({node.name, attrs, view.inputs, {}});
    for (std::size_t i = 0; i < view.outputs.size(); ++i) {
      EXPECT_EQ(view.outputs[i], local_desc(global.outputs[i], signature.outputs[i], num_ranks))
          << node.op->name << ": local shapes";
      add_range(view, global.outputs[i], signature.outputs[i], rank, num_ranks);
      Buffer* storage = &buffers.emplace_back(view.outputs[i]);
      for (const auto& [output, input] : node.op->in_place)
        if (output == static_cast<int>(i)) storage = inputs[static_cast<std::size_t>(input)];
      outputs.push_back(storage);
    }
    view.num_threads = 1 + rank % 2;  // results must not depend on it
    device.run(*node.op, view, inputs, outputs);
    for (const Buffer* output : outputs) results_.push_back(output->elements());
  }
  const std::vector<double>& input(std::size_t i) const { return given_[i]; }  // after rounding
  const std::vector<double>& output(std::size_t i) const { return results_[i]; }

 private:
  static void add_range(KernelNode& view, const TensorDesc& desc, const AxisPlacement& placement, int rank,
                        int num_ranks) {
    if (!placement.is_sharded()) return;
    const std::int64_t extent = desc.extent(placement.axis), local = extent / num_ranks;
    view.ranges.push_back({placement.axis, rank * local, local, extent});
  }
  std::vector<std::vector<double>> given_, results_;
};

inline bool can_split(const OpArgs& args, const OpPlacement& signature, int num_ranks) {
  for (std::size_t i = 0; i < args.inputs.size(); ++i)
    if (signature.inputs[i].is_sharded() && args.inputs[i].extent(signature.inputs[i].axis) % num_ranks != 0)
      return false;
  for (std::size_t i = 0; i < args.outputs.size(); ++i)
    if (signature.outputs[i].is_sharded() &&
        args.outputs[i].extent(signature.outputs[i].axis) % num_ranks != 0)
      return false;
  return true;
}

inline std::string text_of(const OpPlacement& signature) {
  std::string text;
  for (const AxisPlacement& input : signature.inputs) text += to_string(input) + " ";
  text += "->";
  for (const AxisPlacement& output : signature.outputs) text += " " + to_string(output);
  return text;
}

inline void PrintTo(const Case& test, std::ostream* out) {
  *out << test.op->name << ": " << test.sample->name << " in " << test.dtype;
}

// What the ranks hold together of an input or an output.
inline std::vector<double> combined(const std::vector<RankRun>& ranks, const AxisPlacement& placement,
                                    const std::function<const std::vector<double>&(const RankRun&)>& part) {
  std::vector<double> all = part(ranks.front());
  if (!placement.is_partial()) return all;
  for (std::size_t r = 1; r < ranks.size(); ++r)
    for (std::size_t i = 0; i < all.size(); ++i)
      all[i] = placement.reduce == ReduceOp::kMax ? std::max(all[i], part(ranks[r])[i])
                                                  : all[i] + part(ranks[r])[i];
  return all;
}

// The reference of a node, with these inputs in place of its partial ones: ranks round their summands.
inline std::vector<Array> reference_of(const Graph& graph, const Node& node, const std::vector<Array>& values,
                                       const OpPlacement& signature, const std::vector<RankRun>& ranks) {
  const OpArgs args = graph.args_of(node);
  std::vector<Array> inputs, outputs;
  std::vector<const Array*> pointers;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    inputs.push_back(values[static_cast<std::size_t>(node.inputs[i].index)]);
    for (double& x : inputs.back().data) x = rounded(x, args.inputs[i].dtype);
    if (signature.inputs[i].is_partial())
      inputs.back().data = combined(
          ranks, signature.inputs[i], [i](const RankRun& run) -> auto& { return run.input(i); });
  }
  for (const Array& input : inputs) pointers.push_back(&input);
  for (const TensorDesc& output : args.outputs)
    outputs.push_back({output.dims, std::vector<double>(static_cast<std::size_t>(output.num_elements()))});
  node.op->reference(args, pointers, outputs);
  return outputs;
}

// The largest element, also of what the ranks add up.
inline double largest(const std::vector<double>& wanted, const std::vector<RankRun>& ranks,
                      std::size_t output) {
  double most = 1e-3;
  for (const double x : wanted) most = std::max(most, std::abs(x));
  for (const RankRun& run : ranks)
    for (const double x : run.output(output)) most = std::max(most, std::abs(x));
  return most;
}

inline void expect_reference(const Device& device, const Graph& graph, const std::vector<Array>& values,
                             const OpPlacement& signature, int num_ranks) {
  const Node& node = graph.nodes().back();
  std::vector<RankRun> ranks;
  for (int rank = 0; rank < num_ranks; ++rank)
    ranks.emplace_back(device, graph, node, values, signature, rank, num_ranks);
  const std::vector<Array> wanted = reference_of(graph, node, values, signature, ranks);
  for (std::size_t o = 0; o < node.outputs.size(); ++o) {
    const AxisPlacement& placement = signature.outputs[o];
    const double bound = tolerance(graph.value(node.outputs[o]).desc.dtype) *
                         largest(wanted[o].data, ranks, o) * (placement.is_partial() ? num_ranks : 1);
    for (int rank = 0; rank < num_ranks; ++rank) {
      const RankRun& own = ranks[static_cast<std::size_t>(rank)];
      const std::vector<double> found =
          placement.is_partial()
              ? combined(
                    ranks, placement, [o](const RankRun& run) -> auto& { return run.output(o); })
              : own.output(o);
      const std::vector<double> expected =
          placement.is_sharded() ? shard(wanted[o], placement.axis, rank, num_ranks) : wanted[o].data;
      ASSERT_EQ(found.size(), expected.size());
      for (std::size_t i = 0; i < found.size(); ++i)
        ASSERT_NEAR(found[i], expected[i], bound)
            << text_of(signature) << " on " << num_ranks << " ranks, output " << o << ", element " << i;
    }
  }
}

// Every placement on 1, 2 and 4 ranks.
inline void expect_every_placement(const Device& device, const Case& test) {
  const Graph graph = build(test);
  const Node& node = graph.nodes().back();
  ASSERT_EQ(node.op, test.op) << "the sample's last node must be the op";
  const std::vector<Array> before =
      interpret_first(graph, random_inputs(graph, *test.sample), graph.nodes().size() - 1);
  const OpArgs args = graph.args_of(node);
  int checked = 0;
  for (const OpPlacement& signature : signatures_of(*node.op, args))
    for (const int num_ranks : {1, 2, 4}) {
      if (!can_split(args, signature, num_ranks)) continue;
      expect_reference(device, graph, before, signature, num_ranks);
      ++checked;
    }
  EXPECT_GT(checked, 0);
}

// A graph whose nodes are all run by the device's kernels, on one rank: every value, by number.
inline std::vector<Array> run_nodes(const Device& device, const Graph& graph, const Arrays& inputs) {
  std::vector<Array> values = interpret_first(graph, inputs, 0);
  for (const Node& node : graph.nodes()) {
    const OpPlacement whole = replicated_rule(graph.args_of(node));
    const RankRun run(device, graph, node, values, whole, 0, 1);
    for (std::size_t o = 0; o < node.outputs.size(); ++o)
      values[static_cast<std::size_t>(node.outputs[o].index)].data = run.output(o);
  }
  return values;
}

struct Differentiated {
  Graph graph;
  ValueId loss;
  std::vector<ValueId> wanted, gradients;
};

// loss = sum of random weights times the outputs: contracting with weights makes each element count.
inline Differentiated with_gradients(const Case& test) {
  Differentiated d{build(test), {}, {}, {}};
  const Node node = d.graph.nodes().back();
  const std::size_t num_outputs = test.op == &unstack_op() ? node.outputs.size() : 1;
  std::vector<ValueId> terms;
  for (std::size_t o = 0; o < num_outputs; ++o) {
    const ValueId weights =
        d.graph.input("weights." + std::to_string(o), d.graph.value(node.outputs[o]).desc);
    terms.push_back(matmul(d.graph, node.outputs[o], weights, {}, "term", {.out_dtype = DType::kF32}));
  }
  d.loss = add(d.graph, terms, "objective");
  for (std::size_t v = 0; v < d.graph.values().size(); ++v) {
    const Value& value = d.graph.values()[v];
    if (value.role == Role::kInput && is_floating(value.desc.dtype) && !value.name.starts_with("weights"))
      d.wanted.push_back({static_cast<int>(v)});
  }
  d.gradients = differentiate(d.graph, d.loss, d.wanted);
  verify(d.graph, "autodiff");
  return d;
}

// The whole backward pass against the double gradient at the same inputs. A gradient is a result of up to two
// kernels after the loss, each within its tolerance.
inline void expect_double_gradient(const Device& device, const Case& test) {
  const Differentiated d = with_gradients(test);
  const Arrays inputs = random_inputs(d.graph, *test.sample);
  const std::vector<Array> found = run_nodes(device, d.graph, inputs), wanted = interpret(d.graph, inputs);
  for (const ValueId gradient : d.gradients) {
    const std::vector<double>&x = found[static_cast<std::size_t>(gradient.index)].data,
          &y = wanted[static_cast<std::size_t>(gradient.index)].data;
    double most = 1e-3;
    for (const double element : y) most = std::max(most, std::abs(element));
    const Value& value = d.graph.value(gradient);
    const double bound = 2 * std::max(tolerance(test.dtype), tolerance(value.desc.dtype)) * most;
    for (std::size_t i = 0; i < x.size(); ++i)
      ASSERT_NEAR(x[i], y[i], bound) << value.name << "[" << i << "]";
  }
}

inline std::string name_of_case(const testing::TestParamInfo<Case>& test) {
  std::string name = concat(test.param.op->name, "_", test.param.sample->name, "_", test.param.dtype);
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}
}  // namespace takt::op_contract
