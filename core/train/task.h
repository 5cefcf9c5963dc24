// Task: what a step computes, said once for one device, and what is counted. The compiler and the trainer know a model
// only through it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "core/state/dataset.h"

namespace takt {

// What people count of a task's data: tokens, samples, cells.
struct Unit {
  std::string name = "samples";
  std::int64_t per_sample = 1;
};

// What a model computes of a number of samples. Every value has the leading axis "batch", one row a sample.
struct TaskOutputs {
  ValueId losses;  // f32; their mean over the global batch is the loss that is reported
  // Further numbers, f32: an evaluation reports the mean of each under its name.
  std::vector<ValueId> metrics = {};
  // What training makes small beside the losses, f32: the mean of each is added to what gradients are taken of.
  std::vector<ValueId> penalties = {};
};

// The losses of an evaluation in other words: of what the samples weigh, transform(sum of losses / sum of weights).
// Bits per byte, for one: bytes of text behind a sample are its weight.
struct Figure {
  std::string name;  // "bits_per_byte"
  std::function<double(std::int64_t sample)> weight;
  double (*transform)(double ratio) = nullptr;
};

class Task {
 public:
  virtual ~Task() = default;

  virtual Unit unit() const { return {}; }
  // Appends the inputs, which a Dataset fills by name, the model, and the loss for `num_samples` samples. Global shapes;
  // the graph is the same for any number of samples but for the extent of the axis "batch".
  virtual TaskOutputs build(Graph& graph, std::int64_t num_samples) const = 0;
  // Appends the model alone, without targets: what it says of its inputs.
  virtual ValueId build_prediction(Graph& graph, std::int64_t num_samples) const = 0;
  // What an evaluation on `data` says beside its loss.
  virtual std::vector<Figure> figures(const Dataset&) const { return {}; }
};

}  // namespace takt
