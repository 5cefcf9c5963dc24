// Trainer: writes inputs, runs programs, reads outputs. What the programs do is in the plan.
#include "launch/trainer.h"

#include <chrono>
#include <cmath>
#include <numbers>

#include "core/base/rng.h"
#include "core/passes/shard_ranges.h"
#include "core/state/pretrained.h"
#include "optimizers/optimizer.h"

namespace takt {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::vector<AxisRange> ranges_of(const PersistentValue& value, const Mesh& mesh,
                                 std::span<const int> coordinates) {
  std::vector<AxisRange> ranges;
  for (const Dim& dim : value.global_dims)
    ranges.push_back(range_of(dim, value.placement, mesh, coordinates));
  return ranges;
}

// Calls body(local element, global element) for every element of a rank's buffer that exists globally.
template <class Body>
void for_each_element(const PersistentValue& value, std::span<const AxisRange> ranges, const Body& body) {
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

// Of the ranks that hold the same piece, the first one saves it.
bool is_first_replica(const Placement& placement, std::span<const int> coordinates) {
  for (std::size_t m = 0; m < placement.size(); ++m)
    if (!placement[m].is_sharded() && coordinates[m] != 0) return false;
  return true;
}

bool is_saved(const PersistentValue& value) {
  return value.role == Role::kParameter || value.role == Role::kState;
}

}  // namespace

Trainer::Trainer(const Job& job, const StepPlan& plan, Communicator& world)
    : job_(job),
      plan_(plan),
      world_(world),
      batch_(plan_batch(job, plan.mesh)),
      groups_(plan, world),
      executor_(plan, world.rank(), groups_),
      samples_(static_cast<std::size_t>(batch_.micro_batch)) {
  cursor_.seed = job.seed;
}

void Trainer::initialize_weights() {
  for (const PersistentValue& value : plan_.table.values()) {
    if (value.role != Role::kParameter) continue;
    world_.note_progress({.doing = "drawing initial weights"});
    std::vector<float> data(static_cast<std::size_t>(value.desc.num_elements()));
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
    executor_.write(value.name, std::as_bytes(std::span(data)));
  }
  start();
}

void Trainer::start() {
  executor_.run(plan_.start);
}

int Trainer::data_rank() const {
  const int axis = plan_.mesh.find("data");
  return axis < 0 ? 0 : executor_.coordinates()[static_cast<std::size_t>(axis)];
}

void Trainer::load_micro_batch(const TokenDataset& data, int micro_batch) {
  const std::int64_t seq = job_.model.seq;
  tokens_.resize(samples_.size() * static_cast<std::size_t>(seq));
  targets_.resize(tokens_.size());
  for (std::size_t i = 0; i < samples_.size(); ++i) {
    const std::size_t at = i * static_cast<std::size_t>(seq);
    data.sample(samples_[i], seq, &tokens_[at], &targets_[at]);
  }
  executor_.write(kTokens, std::as_bytes(std::span(tokens_)), micro_batch);
  executor_.write(kTargets, std::as_bytes(std::span(targets_)), micro_batch);
}

// Before a program runs, its inputs are written: the samples of its micro-batch, or the numbers of this step. Ranks own
// neighbouring samples: data rank d has micro-batches d M to d M + M - 1 of the global batch.
StepResult Trainer::step(const TokenDataset& data, const DataOrder& order) {
  StepResult result;
  const auto start = std::chrono::steady_clock::now();
  executor_.reset_times();
  const StepHyper hyper = hyper_at(job_.optimizer, cursor_.step + 1, job_.train.steps);
  for (const Action& action : plan_.step) {
    const bool is_run = action.kind == Action::Kind::kRun;
    const std::string_view program = plan_.programs[static_cast<std::size_t>(action.program)].name;
    const bool updates = is_run && (program == kUpdate || program == kLastMicroBatch);
    if (updates) executor_.write(kHyper, std::as_bytes(std::span(&hyper, 1)), action.micro_batch);
    if (is_run && (program == kMicroBatch || program == kLastMicroBatch)) {
      const std::int64_t first =
          cursor_.samples +
          (data_rank() * batch_.num_micro_batches + action.micro_batch) * batch_.micro_batch;
      for (std::size_t i = 0; i < samples_.size(); ++i)
        samples_[i] = order.at(first + static_cast<std::int64_t>(i));
      world_.note_progress({.doing = "reading data", .step = cursor_.step + 1});
      load_micro_batch(data, action.micro_batch);
    }
    world_.note_progress({.doing = program});
    if (is_run && program == kUpdate) result.forward_backward_s = seconds_since(start);
    executor_.run(action);
    if (is_run && (program == kUpdate ||
                   program == kLastMicroBatch)) {  // outputs are there until the next program runs
      result.loss = static_cast<double>(scalar(kLossOfStep));
      result.grad_norm = static_cast<double>(scalar(kGradNorm));
    }
    if (is_run && program == kLastMicroBatch) result.forward_backward_s = seconds_since(start);
  }
  result.lr = static_cast<double>(hyper.lr);
  result.update_s = seconds_since(start) - result.forward_backward_s;
  result.collective_s = executor_.collective_time_s();
  cursor_.step += 1;
  cursor_.samples += batch_.samples_a_step;
  return result;
}

float Trainer::scalar(std::string_view output) const {
  float number = 0;
  executor_.read(output, std::as_writable_bytes(std::span(&number, 1)));
  return number;
}

Evaluation Trainer::evaluate(const TokenDataset& data, std::int64_t num_samples, const Tokenizer* tokenizer,
                             const std::function<bool()>& stop) {
  const std::int64_t available = data.num_samples(job_.model.seq), seq = job_.model.seq;
  num_samples = num_samples > 0 ? std::min(num_samples, available) : available;
  double sums[3] = {};  // nats, tokens, bytes
  for (std::int64_t first = 0; first < num_samples; first += batch_.samples_a_micro_batch) {
    if (stop && stop()) return {.was_stopped = true};
    const std::int64_t mine = first + data_rank() * batch_.micro_batch;
    // Past the end the last sample is computed again, so that all ranks run the same programs, but not
    // counted.
    for (std::size_t i = 0; i < samples_.size(); ++i)
      samples_[i] = std::min(mine + static_cast<std::int64_t>(i), num_samples - 1);
    world_.note_progress({.doing = "validation"});
    load_micro_batch(data, 0);
    const std::int64_t counted = std::clamp<std::int64_t>(num_samples - mine, 0, batch_.micro_batch) * seq;
    for (const std::int32_t target : std::span(targets_).first(static_cast<std::size_t>(counted)))
      sums[2] += tokenizer != nullptr ? static_cast<double>(tokenizer->num_bytes(target)) : 0.0;
    executor_.run(plan_.evaluate);
    losses_.resize(targets_.size());
    executor_.read(kLosses, std::as_writable_bytes(std::span(losses_)));
    const auto losses = std::span(losses_).first(static_cast<std::size_t>(counted));
    for (const float loss : losses) sums[0] += static_cast<double>(loss);
    sums[1] += static_cast<double>(counted);
  }
  // Ranks of one data group's other axes hold the same sums: each counts once.
  if (!is_first_along_all_but("data")) std::fill(std::begin(sums), std::end(sums), 0.0);
  world_.all_reduce(sums, 3, DType::kF64, ReduceOp::kSum, {"validation sums"});
  Evaluation evaluation{.loss = sums[0] / sums[1], .bits_per_byte = std::nullopt};
  if (tokenizer != nullptr && sums[2] > 0) evaluation.bits_per_byte = sums[0] / std::numbers::ln2 / sums[2];
  return evaluation;
}

bool Trainer::is_first_along_all_but(const Axis& mesh_axis) const {
  for (std::size_t m = 0; m < plan_.mesh.axes.size(); ++m)
    if (plan_.mesh.axes[m].name != mesh_axis && executor_.coordinates()[m] != 0) return false;
  return true;
}

std::vector<TensorShard> Trainer::shards() {
  std::vector<TensorShard> shards;
  for (const PersistentValue& value : plan_.table.values()) {
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
    shard.memory = host_memory(host_span<float>(executor_, value.name).data(), shard.dtype);
    shard.writes = is_first_replica(value.placement, executor_.coordinates());
    shards.push_back(std::move(shard));
  }
  return shards;
}

bool Trainer::weights_are_finite() {
  std::int32_t any_bad = 0;
  for (const PersistentValue& value : plan_.table.values())
    if (value.role == Role::kParameter)
      for (const float weight : host_span<float>(executor_, value.name))
        any_bad |= std::isfinite(weight) ? 0 : 1;
  world_.all_reduce(&any_bad, 1, DType::kI32, ReduceOp::kMax, {"weights that are not finite"});
  return any_bad == 0;
}

std::vector<ExportedTensor> Trainer::exported() const {
  return exported_tensors(plan_.programs[plan_.index_of(kUpdate)].graph);
}

std::int64_t Trainer::num_parameters() const {
  std::int64_t total = 0;
  for (const PersistentValue& value : plan_.table.values())
    if (value.role == Role::kParameter) total += num_elements(value.global_dims);
  return total;
}

}  // namespace takt
