// RegressionTask: an MLP learns arrays from arrays, by the squares of its errors.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/models/mlp.h"
#include "core/state/normalized_dataset.h"
#include "core/train/job_task.h"

namespace takt {

// Inputs as NormalizedDataset fills them: "inputs" f32 [batch, input] and "targets" f32 [batch, output].
class RegressionTask final : public JobTask {
 public:
  // What arrays the model is between, and how it sees them. Empty normalizations are measured by open_data.
  struct Arrays {
    std::vector<std::int64_t> input_shape, output_shape;  // of one sample
    Normalization inputs = {}, targets = {};
  };
  // Inputs and outputs of the config follow from the shapes. Throws kConfig.
  RegressionTask(MlpConfig config, Arrays arrays, DataFiles files = {});

  const MlpConfig& config() const { return config_; }
  const Arrays& arrays() const { return arrays_; }

  TaskOutputs build(Graph& graph, std::int64_t num_samples) const override;
  ValueId build_prediction(Graph& graph, std::int64_t num_samples) const override;
  // relative_l2: the root of the sum of all squared errors over that of all squared targets, both as they are in the
  // files. `data` is a NormalizedDataset.
  std::vector<Figure> figures(const Dataset& data) const override;

  std::string describe() const override { return "mlp"; }
  // An entry of data.train or data.valid is a folder with inputs.npy and targets.npy. What the training data measures is
  // also how the validation data is seen.
  Datasets open_data(Communicator& comm) override;
  void require_same_model(const nlohmann::json& config, const std::string& source) const override;
  void write_model_files(const std::filesystem::path& folder) const override;
  std::unique_ptr<Dataset> open_inputs(const std::filesystem::path& file) const override;
  void write_predictions(const std::filesystem::path& file, std::vector<float> rows) const override;

 private:
  std::unique_ptr<NormalizedDataset> normalized(ArrayDataset arrays) const;

  MlpConfig config_;
  Arrays arrays_;
  DataFiles files_;
};

TaskKind regression_task_kind();

}  // namespace takt
