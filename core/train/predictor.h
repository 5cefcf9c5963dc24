// Predictor: applies a model to batches of samples, in one process.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/exec/cpu_executor.h"
#include "core/state/checkpoint.h"
#include "core/state/dataset.h"
#include "core/train/task.h"

namespace takt {

class Predictor {
 public:
  // For `num_samples` samples at once. Weights are zero until they are imported. Throws kConfig or kMemory.
  Predictor(const Task& task, std::int64_t num_samples, int num_threads);

  // Fills the weights from a safetensors file or a folder of an exported model; see import_model.
  void import_weights(const std::filesystem::path& file_or_directory);

  // The outputs of samples of `data`, at most as many as at once; one row a sample. Valid until the next call.
  std::span<const float> run(const Dataset& data, std::span<const std::int64_t> samples);
  // The same of all samples, one row after the other.
  std::vector<float> run_all(const Dataset& data);

  // The other way: the caller fills an input itself, [num_samples, ...], and runs. Throws kBug if there is none.
  template <class T>
  std::span<T> input(std::string_view name) {
    return host_span<T>(executor_, name);
  }
  std::span<const float> run();

 private:
  std::int64_t num_samples_;
  StepPlan plan_;
  CpuExecutor executor_;
};

}  // namespace takt
