// One program of one rank: there is nothing to spread.
#include "core/train/predictor.h"

#include <algorithm>
#include <numeric>

#include "core/state/pretrained.h"
#include "core/train/compile_step.h"

namespace takt {

Predictor::Predictor(const Task& task, std::int64_t num_samples, int num_threads)
    : num_samples_(num_samples),
      plan_(compile_prediction(task, num_samples, num_threads)),
      executor_(plan_) {}

void Predictor::import_weights(const std::filesystem::path& file_or_directory) {
  const Graph& graph = plan_.programs[0].graph;
  std::vector<TensorShard> shards;
  for (const Value& value : graph.values()) {
    if (value.role != Role::kParameter) continue;
    TensorShard shard{.name = value.name,
                      .memory = host_memory(host_span<float>(executor_, value.name).data(), DType::kF32)};
    for (const Dim& dim : value.desc.dims) shard.global_shape.push_back(dim.extent);
    shard.buffer_shape = shard.extent = shard.global_shape;
    shard.offset.assign(shard.extent.size(), 0);
    shards.push_back(std::move(shard));
  }
  import_model(file_or_directory, shards, exported_tensors(graph));
}

std::span<const float> Predictor::run() {
  executor_.run(Action{.program = 0});
  return executor_.output(0, 0);
}

std::span<const float> Predictor::run(const Dataset& data, std::span<const std::int64_t> samples) {
  std::vector<std::int64_t> batch(static_cast<std::size_t>(num_samples_), kPaddingSample);
  TAKT_ASSERT(samples.size() <= batch.size(), "prediction of ", samples.size(), " samples, at most ",
              num_samples_, " at once");
  std::copy(samples.begin(), samples.end(), batch.begin());
  std::vector<NamedBuffer> buffers;
  for (const PersistentValue& value : plan_.table.values())
    if (value.role == Role::kInput)
      buffers.push_back({value.name, value.desc.dtype, executor_.host_view(value.name)});
  data.fill(batch, buffers);
  const std::span<const float> rows = run();
  return rows.first(rows.size() / batch.size() * samples.size());
}

std::vector<float> Predictor::run_all(const Dataset& data) {
  std::vector<float> all;
  std::vector<std::int64_t> samples;
  for (std::int64_t first = 0; first < data.num_samples(); first += num_samples_) {
    samples.resize(static_cast<std::size_t>(std::min(num_samples_, data.num_samples() - first)));
    std::iota(samples.begin(), samples.end(), first);
    const std::span<const float> rows = run(data, samples);
    all.insert(all.end(), rows.begin(), rows.end());
  }
  return all;
}

}  // namespace takt
