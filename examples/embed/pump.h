// The application's side: a pump of which sensors report the efficiency at operating points, and the task of learning it.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "core/base/rng.h"
#include "core/models/mlp.h"
#include "core/ops/builders.h"
#include "core/state/dataset.h"
#include "core/train/task.h"

namespace pump {

// Of an operating point: flow and speed, each from 0 to 1 of the nominal one. Best where flow follows speed.
inline double efficiency(double flow, double speed) {
  const double off = flow - speed;
  return 0.85 * std::exp(-4 * off * off) * (0.6 + 0.4 * speed);
}

// Readings number 0, 1, 2, ...: points "operating_point" [2] and values "efficiency" [1].
class Readings final : public takt::Dataset {
 public:
  Readings(std::int64_t num_readings, std::uint64_t seed)
      : num_readings_(num_readings), random_(seed, "pump") {}

  double flow(std::int64_t reading) const { return random_.uniform(static_cast<std::uint64_t>(2 * reading)); }
  double speed(std::int64_t reading) const {
    return random_.uniform(static_cast<std::uint64_t>(2 * reading + 1));
  }

  std::int64_t num_samples() const override { return num_readings_; }
  std::uint64_t content_hash() const override { return static_cast<std::uint64_t>(num_readings_); }
  void fill(std::span<const std::int64_t> readings,
            std::span<const takt::NamedBuffer> buffers) const override {
    for (const takt::NamedBuffer& buffer : buffers) {
      auto* to = reinterpret_cast<float*>(buffer.bytes.data());
      for (const std::int64_t reading : readings) {
        const double f = reading < 0 ? 0 : flow(reading), s = reading < 0 ? 0 : speed(reading);
        if (buffer.name == "efficiency") {
          *to++ = static_cast<float>(efficiency(f, s));
        } else {
          *to++ = static_cast<float>(2 * f - 1);  // around zero, as models like it
          *to++ = static_cast<float>(2 * s - 1);
        }
      }
    }
  }

 private:
  std::int64_t num_readings_;
  takt::RandomStream random_;
};

// What a step computes. The model could as well be written here, out of the builders in core/ops.
class Efficiency final : public takt::Task {
 public:
  takt::Unit unit() const override { return {.name = "readings", .per_sample = 1}; }
  takt::TaskOutputs build(takt::Graph& graph, std::int64_t num_samples) const override {
    const takt::ValueId wanted =
        graph.input("efficiency", {{{"batch", num_samples}, {"output", 1}}, takt::DType::kF32});
    return {.losses = takt::squared_error(graph, build_prediction(graph, num_samples), wanted, "loss")};
  }
  takt::ValueId build_prediction(takt::Graph& graph, std::int64_t num_samples) const override {
    const takt::ValueId point =
        graph.input("operating_point", {{{"batch", num_samples}, {"input", 2}}, takt::DType::kF32});
    return takt::build_mlp(graph, {.inputs = 2, .outputs = 1, .layers = 2, .embed = 32, .mlp = 64}, point);
  }
};

}  // namespace pump
