// Trainer: writes inputs, runs programs, reads outputs. What the programs do is in the plan.
#include "launch/trainer.h"

#include <chrono>
#include <cmath>
#include <numbers>

#include "core/base/rng.h"
#include "core/passes/shard_ranges.h"
#include "optimizers/optimizer.h"

namespace takt {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Calls body(local element, global element) for every element of a rank's buffer that exists globally.
template <class Body>
void for_each_element(const Value& value, std::span<const AxisRange> ranges, const Body& body) {
  const Dims& local = value.desc.dims;
  std::vector<std::int64_t> at(local.size());
  for (std::int64_t i = 0; i < num_elements(local); ++i) {
    std::int64_t rest = i, global = 0;
    bool exists = true;
    for (std::size_t d = local.size(); d-- > 0; rest /= local[d].extent) at[d] = rest % local[d].extent;
    for (std::size_t d = 0; d < local.size(); ++d) {
      exists = exists && at[d] < ranges[d].num_valid;
      global = global * value.global_dims[d].extent + ranges[d].offset + at[d];
    }
    if (exists) body(i, global);
  }
}

std::vector<AxisRange> ranges_of(const Value& value, const Mesh& mesh, std::span<const int> coordinates) {
  std::vector<AxisRange> ranges;
  for (std::size_t d = 0; d < value.desc.dims.size(); ++d)
    ranges.push_back(range_of(value, d, mesh, coordinates));
  return ranges;
}

// Of the ranks that hold the same piece, the first one saves it.
bool is_first_replica(const Placement& placement, std::span<const int> coordinates) {
  for (std::size_t m = 0; m < placement.size(); ++m)
    if (!placement[m].is_sharded() && coordinates[m] != 0) return false;
  return true;
}

bool is_saved(const Value& value) {
  return value.role == Role::kParameter || value.role == Role::kState;
}

}  // namespace

Trainer::Trainer(const Job& job, const StepPlan& plan, Communicator& world)
    : job_(job),
      plan_(plan),
      world_(world),
      batch_(plan_batch(job, plan.mesh)),
      groups_(plan.mesh, world),
      executor_(plan, world.rank(), groups_.groups()),
      micro_batch_(plan.index_of(kMicroBatch)),
      update_(plan.index_of(kUpdate)),
      evaluate_(plan.index_of(kEvaluate)),
      samples_(static_cast<std::size_t>(batch_.micro_batch)) {
  cursor_.seed = job.seed;
}

void Trainer::initialize_weights() {
  for (const Value& value : plan_.programs[micro_batch_].graph.values()) {
    if (value.role != Role::kParameter) continue;
    world_.note_progress({.doing = "drawing initial weights"});
    const std::span<float> data = executor_.persistent(value.name);
    const ParameterInfo& info = value.parameter.value();
    const RandomStream random(job_.seed, value.name);
    for_each_element(value, ranges_of(value, plan_.mesh, executor_.coordinates()),
                     [&](std::int64_t local, std::int64_t global) {
                       const float number = info.init == ParameterInfo::Init::kNormal
                                                ? static_cast<float>(info.std) *
                                                      random.normal(static_cast<std::uint64_t>(global))
                                                : (info.init == ParameterInfo::Init::kOnes ? 1.0f : 0.0f);
                       data[static_cast<std::size_t>(local)] = number;
                     });
  }
}

int Trainer::data_rank() const {
  const int axis = plan_.mesh.find("data");
  return axis < 0 ? 0 : executor_.coordinates()[static_cast<std::size_t>(axis)];
}

void Trainer::load_micro_batch(std::size_t program, const TokenDataset& data) {
  const std::span<std::int32_t> tokens = executor_.tokens(program, kTokens),
                                targets = executor_.tokens(program, kTargets);
  const std::int64_t seq = job_.model.seq;
  for (std::size_t i = 0; i < samples_.size(); ++i) {
    const std::size_t at = i * static_cast<std::size_t>(seq);
    data.sample(samples_[i], seq, &tokens[at], &targets[at]);
  }
}

StepResult Trainer::step(const TokenDataset& data, const DataOrder& order) {
  StepResult result;
  const auto start = std::chrono::steady_clock::now();
  executor_.reset_times();
  executor_.zero_accumulators();
  for (std::int64_t m = 0; m < batch_.num_micro_batches; ++m) {
    const std::int64_t first =
        cursor_.samples + m * batch_.samples_a_micro_batch + data_rank() * batch_.micro_batch;
    for (std::size_t i = 0; i < samples_.size(); ++i)
      samples_[i] = order.at(first + static_cast<std::int64_t>(i));
    world_.note_progress({.doing = "reading data", .step = cursor_.step + 1});
    load_micro_batch(micro_batch_, data);
    world_.note_progress({.doing = "forward and backward"});
    executor_.run(micro_batch_);
  }
  result.forward_backward_s = seconds_since(start);
  const StepHyper hyper = hyper_at(job_.optimizer, cursor_.step + 1, job_.train.steps);
  const std::span<float> input = executor_.scalars(update_, kHyper);
  input[0] = hyper.lr;
  input[1] = hyper.correction1;
  input[2] = hyper.correction2;
  world_.note_progress({.doing = "update"});
  executor_.run(update_);
  result.loss = static_cast<double>(executor_.output(update_, 0)[0]);
  result.grad_norm = static_cast<double>(executor_.output(update_, 1)[0]);
  result.lr = static_cast<double>(hyper.lr);
  result.update_s = seconds_since(start) - result.forward_backward_s;
  result.collective_s = executor_.collective_time_s();
  cursor_.step += 1;
  cursor_.samples += batch_.samples_a_step;
  return result;
}

Evaluation Trainer::evaluate(const TokenDataset& data, std::int64_t num_samples, const Tokenizer* tokenizer) {
  const std::int64_t available = data.num_samples(job_.model.seq), seq = job_.model.seq;
  num_samples = num_samples > 0 ? std::min(num_samples, available) : available;
  double sums[3] = {};  // nats, tokens, bytes
  for (std::int64_t first = 0; first < num_samples; first += batch_.samples_a_micro_batch) {
    const std::int64_t mine = first + data_rank() * batch_.micro_batch;
    // Past the end the last sample is computed again, so that all ranks run the same programs, but not
    // counted.
    for (std::size_t i = 0; i < samples_.size(); ++i)
      samples_[i] = std::min(mine + static_cast<std::int64_t>(i), num_samples - 1);
    world_.note_progress({.doing = "validation"});
    load_micro_batch(evaluate_, data);
    const std::int64_t counted = std::clamp<std::int64_t>(num_samples - mine, 0, batch_.micro_batch) * seq;
    // Targets are read before the run: an input's storage is free after its last reader.
    const auto targets = executor_.tokens(evaluate_, kTargets).first(static_cast<std::size_t>(counted));
    for (const std::int32_t target : targets)
      sums[2] += tokenizer != nullptr ? static_cast<double>(tokenizer->num_bytes(target)) : 0.0;
    executor_.run(evaluate_);
    const auto losses = executor_.output(evaluate_, 0).first(static_cast<std::size_t>(counted));
    for (const float loss : losses) sums[0] += static_cast<double>(loss);
    sums[1] += static_cast<double>(counted);
  }
  const int axis = plan_.mesh.find("data");
  Communicator* group = axis < 0 ? nullptr : groups_.groups()[static_cast<std::size_t>(axis)];
  if (group != nullptr) group->all_reduce(sums, 3, DType::kF64, ReduceOp::kSum, {"validation sums"});
  Evaluation evaluation{.loss = sums[0] / sums[1], .bits_per_byte = std::nullopt};
  if (tokenizer != nullptr && sums[2] > 0) evaluation.bits_per_byte = sums[0] / std::numbers::ln2 / sums[2];
  return evaluation;
}

std::vector<TensorShard> Trainer::shards() {
  std::vector<TensorShard> shards;
  for (const Value& value : plan_.programs[update_].graph.values()) {
    if (!is_saved(value)) continue;
    TensorShard shard{.name = value.name, .is_optimizer = value.role == Role::kState};
    const std::vector<AxisRange> ranges = ranges_of(value, plan_.mesh, executor_.coordinates());
    for (std::size_t d = 0; d < ranges.size(); ++d) {
      shard.global_shape.push_back(value.global_dims[d].extent);
      shard.buffer_shape.push_back(value.desc.dims[d].extent);
      // A rank whose whole piece is padding holds an empty region, which begins at the end.
      shard.offset.push_back(std::min(ranges[d].offset, value.global_dims[d].extent));
      shard.extent.push_back(ranges[d].num_valid);
    }
    shard.data = executor_.persistent(value.name).data();
    shard.writes = is_first_replica(value.placement, executor_.coordinates());
    shards.push_back(std::move(shard));
  }
  return shards;
}

bool Trainer::weights_are_finite() {
  std::int32_t any_bad = 0;
  for (const Value& value : plan_.programs[update_].graph.values())
    if (value.role == Role::kParameter)
      for (const float weight : executor_.persistent(value.name)) any_bad |= std::isfinite(weight) ? 0 : 1;
  world_.all_reduce(&any_bad, 1, DType::kI32, ReduceOp::kMax, {"weights that are not finite"});
  return any_bad == 0;
}

std::vector<ExportedTensor> Trainer::exported() const {
  std::vector<ExportedTensor> tensors;
  for (const Value& value : plan_.programs[micro_batch_].graph.values()) {
    if (value.role != Role::kParameter) continue;
    ExportedTensor tensor{value.name, value.parameter.value().export_shape};
    if (tensor.shape.empty())
      for (const Dim& dim : value.global_dims) tensor.shape.push_back(dim.extent);
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

std::int64_t Trainer::num_parameters() const {
  std::int64_t total = 0;
  for (const Value& value : plan_.programs[micro_batch_].graph.values())
    if (value.role == Role::kParameter) total += num_elements(value.global_dims);
  return total;
}

}  // namespace takt
