// Random small training steps, for properties that must hold whatever the model: a global graph over the ops'
// builder functions, differentiated, with its gradients in accumulators.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/base/rng.h"
#include "core/exec/reference.h"
#include "core/ops/builders.h"
#include "core/passes/autodiff.h"
#include "core/passes/bucket.h"
#include "core/passes/join_programs.h"
#include "core/passes/parallelize.h"
#include "core/passes/schedule.h"
#include "core/passes/step_plan.h"

namespace takt::random_graph {

inline constexpr int kMicroBatches = 2;

struct RandomStep {
  std::uint64_t seed = 0;
  Graph micro_batch;             // outputs: the loss of every token and some values on the way
  Graph update;                  // outputs: every gradient, then the norm of all
  std::int64_t num_classes = 0;  // token numbers are below it
};

inline const Dims& dims_of(const Graph& graph, ValueId id) {
  return graph.value(id).desc.dims;
}

inline AxisNames names_of(const Dims& dims) {
  AxisNames names;
  for (const Dim& dim : dims) names.push_back(dim.axis);
  return names;
}

// Grows a graph from [batch, seq, embed]; every value in the pool is [batch, seq, features...].
class Generator {
 public:
  explicit Generator(std::uint64_t seed) : seed_(seed), random_(seed, "random graph") {
    head_dim_ = 2 + 2 * below(2);
    embed_ = heads_ * head_dim_;
    kv_heads_ = std::int64_t{1} << below(3);
    mlp_ = 5 + below(10);
    vocab_ = 7 + below(11);
    batch_ = 4 + 4 * below(2);
    seq_ = 2 + below(4);
  }

  RandomStep generate() {
    const TensorDesc ids{{{"batch", batch_}, {"seq", seq_}}, DType::kI32};
    const ValueId tokens = graph_.input("tokens", ids);
    targets_ = graph_.input("targets", ids);
    table_ = parameter({{"vocab", vocab_}, {"embed", embed_}}, 1.0);
    pool_ = {embedding(graph_, table_, tokens, "embedding")};
    for (std::int64_t left = 5 + below(6); left > 0; --left) grow();
    const ValueId loss = finish();
    verify(graph_, "build");
    return differentiated(loss);
  }

 private:
  std::int64_t below(std::uint64_t bound) {
    return static_cast<std::int64_t>(random_.below(num_drawn_++, bound));
  }
  bool chance(std::uint64_t one_in) { return below(one_in) == 0; }
  ValueId any() { return pool_[static_cast<std::size_t>(below(pool_.size()))]; }
  std::string name(const std::string& kind) { return kind + "." + std::to_string(num_names_++); }
  const Dims& dims(ValueId id) const { return dims_of(graph_, id); }
  Dims features(ValueId id) const { return {dims(id).begin() + 2, dims(id).end()}; }
  AxisNames with_tokens(const Dims& feature_dims) const {
    AxisNames names = {"batch", "seq"};
    for (const Dim& dim : feature_dims) names.push_back(dim.axis);
    return names;
  }

  ValueId parameter(const Dims& shape, double std) {
    return graph_.parameter(name("parameter"), {shape, DType::kF32}, {.std = std});
  }

  ValueId normalized(ValueId x) {
    const Dims last = {dims(x).back()};
    const ValueId weight = parameter(last, 1.0);
    if (chance(2)) return rms_norm(graph_, x, weight, 1e-3, name("rms"));
    return layer_norm(graph_, x, weight, parameter(last, 0.5), 1e-3, name("layer_norm"));
  }

  // x times a weight in either storage order: the features (or the last one only) become `target`.
  ValueId projected(ValueId x, const Dims& target, bool last_only = false) {
    const Dims all = features(x);
    const Dims from = last_only ? Dims{all.back()} : all;
    Dims result = last_only ? Dims(all.begin(), all.end() - 1) : Dims{};
    result.insert(result.end(), target.begin(), target.end());
    const bool out_first = chance(2);
    Dims shape = out_first ? target : from;
    const Dims& second = out_first ? from : target;
    shape.insert(shape.end(), second.begin(), second.end());
    const ValueId weight = parameter(shape, 1.0 / std::sqrt(static_cast<double>(num_elements(from))));
    MatmulOptions options;
    if (chance(2)) options.bias = parameter(target, 0.5);
    if (chance(3)) options.activation = chance(2) ? "gelu" : "silu";
    return matmul(graph_, x, weight, with_tokens(result), name("projection"), options);
  }

  // Features to project x to: none of its axes.
  Dims target_for(ValueId x) {
    const std::vector<Dims> all = {{{"embed", embed_}},
                                   {{"mlp", mlp_}},
                                   {{"vocab", vocab_}},
                                   {{"heads", heads_}, {"head_dim", head_dim_}},
                                   {{"kv_heads", kv_heads_}, {"head_dim", head_dim_}}};
    for (;;) {
      const Dims& target = all[static_cast<std::size_t>(below(all.size()))];
      if (std::none_of(target.begin(), target.end(),
                       [&](const Dim& dim) { return find_axis(dims(x), dim.axis) >= 0; }))
        return target;
    }
  }

  // A value of the shape of x: another one of the pool, or x itself.
  ValueId partner_of(ValueId x) {
    std::vector<ValueId> alike;
    for (const ValueId id : pool_)
      if (dims(id) == dims(x)) alike.push_back(id);
    return alike[static_cast<std::size_t>(below(alike.size()))];
  }

  ValueId summed(ValueId x) {
    std::vector<ValueId> terms = {x, partner_of(x)};
    if (chance(2)) {
      const auto skipped = 1 + below(dims(x).size());
      terms.push_back(parameter({dims(x).begin() + skipped, dims(x).end()}, 0.5));
    }
    return add(graph_, terms, name("sum"));
  }

  // softmax(x y^T) y, with the features contracted.
  ValueId attended(ValueId x) {
    const ValueId keys = rename(graph_, partner_of(x), "seq", "keys", name("keys"));
    const double factor = 1.0 / std::sqrt(static_cast<double>(num_elements(features(x))));
    const ValueId scores = scale(graph_, matmul(graph_, x, keys, {"batch", "seq", "keys"}, name("scores")),
                                 factor, name("scale"));
    return matmul(graph_, softmax(graph_, scores, name("softmax")), keys, names_of(dims(x)),
                  name("attended"));
  }

  // x (x^T y), where y has other features.
  ValueId mixed(ValueId x) {
    const ValueId y = projected(x, target_for(x));
    AxisNames pair = {"batch"};
    for (const Dim& dim : features(x)) pair.push_back(dim.axis);
    for (const Dim& dim : features(y)) pair.push_back(dim.axis);
    const ValueId products = matmul(graph_, x, y, pair, name("products"));
    const double factor = 1.0 / static_cast<double>(seq_ * num_elements(features(x)));
    return matmul(graph_, x, scale(graph_, products, factor, name("scale")), names_of(dims(y)),
                  name("mixed"));
  }

  // Sums over some axes, repeated along them again.
  ValueId smeared(ValueId x) {
    const Dims f = features(x);
    AxisNames axes = names_of(f);
    if (chance(3))
      axes = {"seq"};
    else if (chance(2))
      axes = {f[static_cast<std::size_t>(below(f.size()))].axis};
    else if (chance(2))
      axes.insert(axes.begin(), "seq");
    const ValueId sum = reduce(graph_, x, axes, ReduceOp::kSum, name("reduced"));
    return scale(graph_, broadcast(graph_, sum, dims(x), name("broadcast")), 0.25, name("scale"));
  }

  ValueId reshaped(ValueId x) {
    const Dims f = features(x);
    Dims shape(dims(x).begin(), dims(x).begin() + 2);
    if (names_of(f) == AxisNames{"heads", "head_dim"} && chance(2)) {
      shape.push_back({"embed", num_elements(f)});
    } else if (f.size() == 2) {
      return f[0].axis == "heads" ? rename(graph_, x, "heads", "kv_heads", name("renamed"))
                                  : scale(graph_, x, -0.5, name("scale"));
    } else if (f[0].axis == "embed" && f[0].extent == embed_ && chance(2)) {
      shape.insert(shape.end(), {{"heads", heads_}, {"head_dim", head_dim_}});
    } else if (f[0].extent % 2 == 0 && chance(2)) {
      shape.insert(shape.end(), {{f[0].axis == "mlp" ? "vocab" : "mlp", f[0].extent / 2}, {"pair", 2}});
    } else {
      const std::string other = f[0].axis == "embed" ? "mlp" : f[0].axis == "mlp" ? "vocab" : "embed";
      shape.push_back({other, f[0].extent});
    }
    return reshape(graph_, x, shape, name("reshaped"));
  }

  void grow_stacked(ValueId x) {
    const std::vector<ValueId> parts = {x, partner_of(x)};
    ValueId whole = stack(graph_, parts, "part", below(dims(x).size() + 1), name("stacked"));
    whole = activation(graph_, whole, "silu", name("activation"));
    for (const ValueId part : unstack(graph_, whole, "part", name("unstacked"))) pool_.push_back(part);
  }

  ValueId causal(ValueId x) {
    if (features(x).size() > 1 || find_axis(dims(x), "kv_heads") >= 0) return normalized(x);
    const auto heads = [&](const Axis& axis, std::int64_t extent) {
      return projected(x, {{axis, extent}, {"head_dim", head_dim_}});
    };
    const ValueId q = rotary(graph_, heads("heads", heads_),
                             rotary_table(graph_, seq_, head_dim_ / 2, 100.0, name("table")), name("rotary"));
    return attention(graph_, q, heads("kv_heads", kv_heads_), heads("kv_heads", kv_heads_),
                     name("attention"));
  }

  void grow() {
    const ValueId x = any();
    if (chance(8)) graph_.mark_output(reduce(graph_, x, names_of(features(x)), ReduceOp::kMax, name("peak")));
    switch (below(13)) {
      case 0:
      case 1:
      case 2:
        return pool_.push_back(projected(x, target_for(x)));
      case 3:
        return pool_.push_back(projected(x, target_for(x), true));
      case 4:
        return pool_.push_back(summed(x));
      case 5:
        return pool_.push_back(activation(graph_, x, chance(2) ? "gelu" : "silu", name("activation")));
      case 6:
        return pool_.push_back(gated_silu(graph_, x, partner_of(x), name("gated")));
      case 7:
        return pool_.push_back(chance(3) ? softmax(graph_, x, name("softmax")) : normalized(x));
      case 8:
        return pool_.push_back(attended(x));
      case 9:
        return pool_.push_back(mixed(x));
      case 10:
        return pool_.push_back(smeared(x));
      case 11:
        return chance(2) ? grow_stacked(x) : pool_.push_back(causal(x));
      default:
        return pool_.push_back(reshaped(x));
    }
  }

  // Class scores from the newest value that can be projected to them, sometimes with the embedding's table.
  ValueId logits() {
    for (std::size_t i = pool_.size(); i-- > 0;) {
      const ValueId x = pool_[i];
      if (find_axis(dims(x), "vocab") >= 0) continue;
      if (features(x) == Dims{{"embed", embed_}} && chance(2))
        return matmul(graph_, x, table_, {"batch", "seq", "vocab"}, "logits");
      return projected(x, {{"vocab", vocab_}});
    }
    fail(Fault::kBug, "the embedding has no vocab axis");
  }

  // The loss: cross entropy, and what nothing else uses, so that every parameter has a gradient.
  ValueId finish() {
    const ValueId scores = logits();
    std::set<int> used;
    for (const Node& node : graph_.nodes())
      for (const ValueId id : node.inputs) used.insert(id.index);
    std::vector<ValueId> losses = {cross_entropy(graph_, scores, targets_, "loss")};
    for (const ValueId id : pool_) {
      if (used.contains(id.index)) continue;
      const ValueId last = chance(2) ? activation(graph_, id, "gelu", name("activation")) : id;
      const ValueId sum = reduce(graph_, last, names_of(features(last)), ReduceOp::kSum, name("leaf"));
      losses.push_back(scale(graph_, sum, 0.1, name("scale")));
    }
    const ValueId loss = losses.size() > 1 ? add(graph_, losses, "losses") : losses[0];
    graph_.mark_output(loss);
    graph_.mark_output(any());
    const ValueId total = reduce(graph_, loss, {"batch", "seq"}, ReduceOp::kSum, "total");
    return scale(graph_, total, 1.0 / static_cast<double>(batch_ * seq_ * kMicroBatches), "mean");
  }

  RandomStep differentiated(ValueId loss) {
    std::vector<ValueId> parameters;
    for (std::size_t v = 0; v < graph_.values().size(); ++v)
      if (graph_.values()[v].role == Role::kParameter) parameters.push_back({static_cast<int>(v)});
    const std::vector<ValueId> gradients = differentiate(graph_, loss, parameters);
    RandomStep step{.seed = seed_, .micro_batch = {}, .update = {}, .num_classes = vocab_};
    std::vector<ValueId> reduced, squares;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const std::string grad_name = "grad." + graph_.value(parameters[i]).name;
      const TensorDesc desc = graph_.value(parameters[i]).desc;
      accumulate(graph_, graph_.persistent(grad_name, desc, Role::kAccumulator), gradients[i],
                 grad_name + ".sum");
      reduced.push_back(step.update.persistent(grad_name, desc, Role::kAccumulator));
      squares.push_back(sum_squares(step.update, reduced.back(), grad_name + ".square"));
    }
    for (const ValueId id : reduced) step.update.mark_output(scale(step.update, id, 1.0, "gradient"));
    step.update.mark_output(clip_factor(step.update, add(step.update, squares, "square"), 0, "norm").norm);
    step.micro_batch = graph_.pruned();
    return step;
  }

  std::uint64_t seed_;
  RandomStream random_;
  std::uint64_t num_drawn_ = 0;
  int num_names_ = 0;
  std::int64_t batch_, seq_, embed_, heads_ = 4, kv_heads_, head_dim_, mlp_, vocab_;
  Graph graph_;
  ValueId targets_, table_;
  std::vector<ValueId> pool_;
};

inline RandomStep random_step(std::uint64_t seed) {
  return Generator(seed).generate();
}

// Random contents of an input (of one micro-batch) or a parameter.
inline Array random_array(const RandomStep& step, const Value& value, int micro_batch) {
  const bool is_input = value.role == Role::kInput;
  const RandomStream random(step.seed, value.name, is_input ? static_cast<std::uint32_t>(micro_batch) : 0);
  Array array{value.desc.dims, {}};
  for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(value.desc.num_elements()); ++i)
    array.data.push_back(
        value.desc.dtype == DType::kI32
            ? static_cast<double>(random.below(i, static_cast<std::uint64_t>(step.num_classes)))
            : static_cast<double>(static_cast<float>((is_input ? 1.0 : value.parameter.value().std) *
                                                     static_cast<double>(random.normal(i)))));
  return array;
}

// How a random step is compiled.
struct CompileOptions {
  ShardingRules rules = model_rules();
  ShardingRules rules_of_update = rules;
  std::optional<std::size_t> extra_bytes = {};  // of the schedule; none: collectives block
  bool joins_update = false;                    // program 1 is the last micro-batch and the update in one
};

// Parallelizes, joins buckets and plans memory, as a training step is compiled; verified after every pass.
inline StepPlan compile(const RandomStep& step, const Mesh& mesh, std::size_t bucket_bytes,
                        const CompileOptions& options = {}) {
  StepPlan plan{.mesh = mesh};
  PersistentTable table;
  const auto local_of = [&](const Graph& global, const ShardingRules& rules) {
    verify(global, "autodiff");
    Graph local = parallelize(global, mesh, rules, table);
    verify(local, "parallelize");
    table.add(local, "");
    return local;
  };
  const auto add = [&](const std::string& program, const Graph& parallelized) {
    Graph local = bucket_all_reduces(parallelized, bucket_bytes);
    verify(local, "bucket");
    if (options.extra_bytes) local = scheduled(local, mesh, plan.device, {*options.extra_bytes}).graph;
    verify(local, "schedule");
    add_program(plan, program, std::move(local));
  };
  const Graph micro_batch = local_of(step.micro_batch, options.rules),
              update = local_of(step.update, options.rules_of_update);
  add("micro_batch", micro_batch);
  add("update", options.joins_update ? joined(micro_batch, update) : update);
  finish(plan);
  return plan;
}

}  // namespace takt::random_graph
