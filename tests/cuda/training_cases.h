// The trainings that must come out on GPUs as they do on CPUs: which models, in which layouts, how close.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "tests/cuda/small_training.h"

namespace takt {

// Both families of language models, one of them with fewer key heads, and a surrogate.
inline std::vector<SmallModel> trained_models() {
  return {small_gpt(
              "Llama",
              {.layers = 2, .embed = 16, .heads = 4, .kv_heads = 2, .mlp = 44, .vocab = kVocab, .seq = kSeq}),
          small_gpt("Gpt2", {.family = "gpt2",
                             .layers = 1,
                             .embed = 24,
                             .heads = 4,
                             .mlp = 40,
                             .vocab = kVocab,
                             .seq = kSeq,
                             .tied = true}),
          small_mlp({.layers = 2, .embed = 16, .mlp = 30})};
}

struct Layout {
  int data, tensor;
  Shard shard = Shard::kNone;
  bool joins = false;  // the update is part of the last micro-batch
  Precision precision = Precision::kF32;
  int replica = 1, context = 1;
  bool sequence = false;
  Recompute recompute = Recompute::kNone;

  int num_ranks() const { return replica * data * context * tensor; }
  std::string name() const {
    return concat("replica=", replica, " data=", data, " context=", context, " tensor=", tensor,
                  " shard=", shard_names()[static_cast<std::size_t>(shard)], joins ? " joined" : "",
                  precision == Precision::kF32 ? "" : " bf16", sequence ? " sequence" : "",
                  " recompute=", recompute_names()[static_cast<std::size_t>(recompute)]);
  }
};

// All meshes of one, two and four ranks; each pair of the other choices on some mesh of each kind: data, tensor, both.
inline const std::vector<Layout>& layouts() {
  static const std::vector<Layout> all = {
      {1, 1},
      {1, 1, Shard::kNone, true, Precision::kBF16},
      {2, 1},
      {2, 1, Shard::kOptimizer, true},
      {2, 1, Shard::kOptimizer, false, Precision::kBF16},
      {1, 2, Shard::kNone, true},
      {1, 2, Shard::kOptimizer, false},
      {1, 2, Shard::kNone, false, Precision::kBF16},
      {2, 2, Shard::kNone, true},
      {2, 2, Shard::kOptimizer, false},
      {2, 2, Shard::kOptimizer, true, Precision::kBF16},
      {4, 1, Shard::kOptimizer, true},
      {1, 4},
      {.data = 2, .tensor = 1, .shard = Shard::kParameters, .joins = true, .recompute = Recompute::kFull},
      {.data = 2, .tensor = 1, .shard = Shard::kGradients, .precision = Precision::kBF16},
      {.data = 1, .tensor = 2, .sequence = true, .recompute = Recompute::kSelective},
      {.data = 1, .tensor = 1, .joins = true, .context = 2},
      {.data = 2, .tensor = 1, .shard = Shard::kParameters, .precision = Precision::kBF16, .replica = 2},
      {.data = 2, .tensor = 2, .shard = Shard::kParameters, .joins = true, .sequence = true},
      {.data = 1, .tensor = 2, .context = 2, .sequence = true},
  };
  return all;
}

inline SmallTraining training_of(const Layout& layout) {
  SmallTraining training{.step = {.global_batch = 4, .micro_batch = 1, .steps = 10, .grad_clip = 0.8},
                         .data = layout.data,
                         .tensor = layout.tensor,
                         .replica = layout.replica,
                         .context = layout.context,
                         .num_steps = 10};
  training.step.layout = {.shard = layout.shard, .sequence = layout.sequence};
  training.step.recompute = layout.recompute;
  training.step.precision = layout.precision;
  training.step.bucket_bytes = 4000;
  if (layout.joins) training.step.overlap = {.joins_update = true, .extra_bytes = 1 << 20};
  training.step.optimizer.lr = 0.01;
  training.step.optimizer.eps = 1e-5;  // gradients that are rounding noise shall not become whole steps
  return training;
}

// How far losses and norms may be apart, relative; weights, absolute, in weights of about 1.
struct Closeness {
  double losses, grad_norms, weights;
};

// bf16 has 8 bits, and ten steps carry on what rounding did to the first: weights that went another way mean nothing.
inline Closeness closeness(Precision precision) {
  if (precision == Precision::kF32) return {.losses = 2e-5, .grad_norms = 2e-4, .weights = 2e-3};
  return {.losses = 2e-2, .grad_norms = 0.2, .weights = 0.1};
}

// The first thing that differs; none: all is as close as wanted.
inline std::optional<std::string> difference(const Trained& found, const Trained& wanted,
                                             const Closeness& close) {
  const auto apart = [](const std::string& what, double a, double b,
                        double allowed) -> std::optional<std::string> {
    if (std::abs(a - b) <= allowed) return std::nullopt;  // NaN is not
    return concat(what, ": ", a, " is not ", b, " within ", allowed);
  };
  if (found.losses.size() != wanted.losses.size()) return "not as many losses";
  for (std::size_t i = 0; i < wanted.losses.size(); ++i)
    if (auto d = apart(concat("loss ", i), found.losses[i], wanted.losses[i],
                       close.losses * std::abs(wanted.losses[i])))
      return d;
  for (std::size_t i = 0; i < wanted.grad_norms.size(); ++i)
    if (auto d = apart(concat("norm ", i), found.grad_norms[i], wanted.grad_norms[i],
                       close.grad_norms * std::abs(wanted.grad_norms[i])))
      return d;
  for (const auto& [name, weights] : wanted.weights)
    for (std::size_t i = 0; i < weights.size(); ++i)
      if (auto d = apart(concat(name, "[", i, "]"), found.weights.at(name).at(i), weights[i], close.weights))
        return d;
  return std::nullopt;
}

}  // namespace takt
