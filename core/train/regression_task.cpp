// The normalization is part of the model: it is measured once, on the training data, and travels with the weights.
#include "core/train/regression_task.h"

#include <fmt/ranges.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "collectives/local.h"
#include "core/base/error.h"
#include "core/ops/builders.h"
#include "core/state/durable_file.h"
#include "core/state/files.h"
#include "core/state/npy.h"
#include "core/state/strict_json.h"

namespace takt {
namespace {

using nlohmann::json;

constexpr const char* kModelType = "takt_mlp";
constexpr const char* kInputs = "inputs";
constexpr const char* kTargets = "targets";
constexpr std::uint64_t kMostConfigBytes = std::uint64_t{1} << 30;

std::int64_t volume(std::span<const std::int64_t> shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

std::string array_file(const std::string& folder, const std::string& name) {
  return (std::filesystem::path(folder) / (name + ".npy")).string();
}

std::vector<std::int64_t> row_shape(const std::string& path) {
  const NpyFile file(path);
  if (file.shape().empty()) fail(Fault::kData, path, ": is a scalar, wanted a row for every sample");
  return {file.shape().begin() + 1, file.shape().end()};
}

const std::string& only_folder(const std::vector<std::string>& folders, const char* key) {
  TAKT_REQUIRE(folders.size() == 1, key, ": names ", folders.size(),
               " entries, an mlp reads one folder with inputs.npy and targets.npy");
  return folders.front();
}

ArrayDataset open_folder(const std::string& folder, Communicator& comm) {
  const ArrayDataset::Source sources[] = {{kInputs, array_file(folder, kInputs)},
                                          {kTargets, array_file(folder, kTargets)}};
  return ArrayDataset::open(sources, comm);
}

std::unique_ptr<JobTask> make(const Settings& settings, const DataFiles& files) {
  const std::string& folder = only_folder(files.train, "data.train");
  RegressionTask::Arrays arrays{.input_shape = row_shape(array_file(folder, kInputs)),
                                .output_shape = row_shape(array_file(folder, kTargets))};
  return std::make_unique<RegressionTask>(mlp_config(settings), std::move(arrays), files);
}

json to_json(const Normalization& normalization) {
  return {{"mean", normalization.mean}, {"scale", normalization.scale}};
}

Normalization normalization_of(const json& config, const char* array) {
  const json& entry = config.at("normalization").at(array);
  return {entry.at("mean").get<std::vector<float>>(), entry.at("scale").get<std::vector<float>>()};
}

RegressionTask::Arrays read_arrays(const std::filesystem::path& file) {
  const std::string source = file.string();
  const json config = parse_strict_json(read_text_file(file, kMostConfigBytes), source);
  try {
    return {.input_shape = config.at("input_shape").get<std::vector<std::int64_t>>(),
            .output_shape = config.at("output_shape").get<std::vector<std::int64_t>>(),
            .inputs = normalization_of(config, kInputs),
            .targets = normalization_of(config, kTargets)};
  } catch (const json::exception& error) {
    fail(Fault::kData, source, ": is not the config of an exported mlp: ", error.what());
  }
}

std::unique_ptr<JobTask> load(Settings settings, const std::filesystem::path& folder) {
  return std::make_unique<RegressionTask>(mlp_config(settings), read_arrays(folder / "config.json"));
}

std::map<std::string, std::string> facts(const Settings& settings) {
  return {{"model.norm_eps", fmt::format("{}", settings.number("model.norm_eps"))}};
}

MlpConfig with_extents(MlpConfig config, const RegressionTask::Arrays& arrays) {
  config.inputs = volume(arrays.input_shape);
  config.outputs = volume(arrays.output_shape);
  return complete_mlp(config);
}

}  // namespace

RegressionTask::RegressionTask(MlpConfig config, Arrays arrays, DataFiles files)
    : config_(with_extents(config, arrays)), arrays_(std::move(arrays)), files_(std::move(files)) {}

TaskOutputs RegressionTask::build(Graph& graph, std::int64_t num_samples) const {
  const ValueId targets =
      graph.input(kTargets, {{{"batch", num_samples}, {"output", config_.outputs}}, DType::kF32});
  return {.losses = squared_error(graph, build_prediction(graph, num_samples), targets, "loss")};
}

ValueId RegressionTask::build_prediction(Graph& graph, std::int64_t num_samples) const {
  return build_mlp(graph, config_,
                   graph.input(kInputs, {{{"batch", num_samples}, {"input", config_.inputs}}, DType::kF32}));
}

std::vector<Figure> RegressionTask::figures(const Dataset& data) const {
  const auto* normalized = dynamic_cast<const NormalizedDataset*>(&data);
  if (!normalized) return {};
  // The target as it is in the file, in the unit in which errors are counted: all elements have one scale.
  const auto square = [this, normalized, row = std::vector<float>(static_cast<std::size_t>(config_.outputs))](
                          std::int64_t sample) mutable {
    const NamedBuffer buffer{kTargets, DType::kF32, std::as_writable_bytes(std::span(row))};
    normalized->arrays().fill({&sample, 1}, {&buffer, 1});
    double sum = 0;
    for (const float y : row) sum += static_cast<double>(y) * static_cast<double>(y);
    const auto scale = static_cast<double>(normalized->normalization(kTargets).scale.front());
    return sum / (scale * scale);
  };
  return {
      {.name = "relative_l2", .weight = square, .transform = [](double ratio) { return std::sqrt(ratio); }}};
}

std::unique_ptr<NormalizedDataset> RegressionTask::normalized(ArrayDataset arrays) const {
  std::map<std::string, Normalization, std::less<>> both = {{kInputs, arrays_.inputs},
                                                            {kTargets, arrays_.targets}};
  return std::make_unique<NormalizedDataset>(std::move(arrays), std::move(both));
}

Datasets RegressionTask::open_data(Communicator& comm) {
  ArrayDataset train = open_folder(only_folder(files_.train, "data.train"), comm);
  if (arrays_.inputs.mean.empty()) {
    arrays_.inputs = Normalization::of(*train.find(kInputs), Normalization::Spread::kEach, comm);
    arrays_.targets = Normalization::of(*train.find(kTargets), Normalization::Spread::kAll, comm);
  }
  Datasets datasets{.train = normalized(std::move(train)), .valid = nullptr};
  if (!files_.valid.empty())
    datasets.valid = normalized(open_folder(only_folder(files_.valid, "data.valid"), comm));
  return datasets;
}

void RegressionTask::require_same_model(const json& config, const std::string& source) const {
  const json wanted = {{"model_type", kModelType},
                       {"input_shape", arrays_.input_shape},
                       {"output_shape", arrays_.output_shape},
                       {"layers", config_.layers},
                       {"embed", config_.embed},
                       {"mlp", config_.mlp},
                       {"norm_eps", config_.norm_eps}};
  for (const auto& [key, value] : wanted.items())
    if (!config.contains(key) || config.at(key) != value)
      fail(Fault::kConfig, source, ": ", key, " is ", config.contains(key) ? config.at(key).dump() : "absent",
           ", this job's model has ", value.dump());
}

void RegressionTask::write_model_files(const std::filesystem::path& folder) const {
  nlohmann::ordered_json config;
  config["model_type"] = kModelType;
  config["input_shape"] = arrays_.input_shape;
  config["output_shape"] = arrays_.output_shape;
  config["layers"] = config_.layers;
  config["embed"] = config_.embed;
  config["mlp"] = config_.mlp;
  config["norm_eps"] = config_.norm_eps;
  config["normalization"] = {{kInputs, to_json(arrays_.inputs)}, {kTargets, to_json(arrays_.targets)}};
  write_file_atomically(folder / "config.json", config.dump(1) + "\n");
}

std::unique_ptr<Dataset> RegressionTask::open_inputs(const std::filesystem::path& file) const {
  const ArrayDataset::Source source{kInputs, file.string()};
  ArrayDataset arrays = ArrayDataset::open({&source, 1});
  const std::span<const std::int64_t> shape = arrays.arrays().front().row_shape();
  if (!std::equal(shape.begin(), shape.end(), arrays_.input_shape.begin(), arrays_.input_shape.end()))
    fail(Fault::kData, file.string(), ": a row has the shape ", fmt::format("[{}]", fmt::join(shape, ", ")),
         ", the model was trained on ", fmt::format("[{}]", fmt::join(arrays_.input_shape, ", ")));
  return std::make_unique<NormalizedDataset>(
      std::move(arrays), std::map<std::string, Normalization, std::less<>>{{kInputs, arrays_.inputs}});
}

void RegressionTask::write_predictions(const std::filesystem::path& file, std::vector<float> rows) const {
  arrays_.targets.undo(rows);
  std::vector<std::int64_t> shape = {static_cast<std::int64_t>(rows.size()) / config_.outputs};
  shape.insert(shape.end(), arrays_.output_shape.begin(), arrays_.output_shape.end());
  write_npy(file, DType::kF32, shape, std::as_bytes(std::span(rows)));
}

TaskKind regression_task_kind() {
  return {.name = "mlp", .settings = mlp_settings, .make = make, .load = load, .facts = facts};
}

}  // namespace takt
