// Trainer: writes inputs, runs programs, reads outputs. What the programs do is in the plan.
#include "core/train/trainer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "collectives/share.h"
#include "core/base/rng.h"
#include "core/passes/shard_ranges.h"
#include "core/state/pretrained.h"

namespace takt {
namespace {

// What a step tells the host.
constexpr std::array kOutputsOfStep = {kLossOfStep, kGradNorm};

double seconds_between(std::chrono::steady_clock::time_point start,
                       std::chrono::steady_clock::time_point end) {
  return std::chrono::duration<double>(end - start).count();
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

// Where the elements lie: in host memory, or behind the executor.
ShardMemory memory_of(Executor& executor, const PersistentValue& value) {
  if (const std::span<std::byte> view = executor.host_view(value.name); !view.empty())
    return host_memory(view.data(), value.desc.dtype);
  const std::size_t element_bytes = num_bytes(value.desc.dtype);
  return {
      .read =
          [&executor, name = value.name, element_bytes](std::int64_t first, std::span<std::byte> to) {
            executor.read_part(name, static_cast<std::size_t>(first) * element_bytes, to);
          },
      .write =
          [&executor, name = value.name, element_bytes](std::int64_t first, std::span<const std::byte> from) {
            executor.write_part(name, static_cast<std::size_t>(first) * element_bytes, from);
          }};
}

bool is_saved(const PersistentValue& value) {
  return value.role == Role::kParameter || value.role == Role::kState;
}

}  // namespace

Trainer::Trainer(const Task& task, const StepConfig& config, const StepPlan& plan, Communicator& world,
                 const ExecutorOptions& options)
    : task_(task),
      config_(config),
      plan_(plan),
      world_(world),
      batch_(plan_batch(config, task.unit(), plan.mesh)),
      executor_(make_executor(plan, world, options)),
      samples_(static_cast<std::size_t>(batch_.micro_batch)) {
  cursor_.seed = config.seed;
  list_inputs();
  list_outputs();
}

void Trainer::list_inputs() {
  for (const PersistentValue& value : plan_.table.values()) {
    if (value.role != Role::kInput || value.name == kHyper) continue;
    for (std::size_t m = 0; m < value.placement.size(); ++m)
      TAKT_ASSERT(!value.placement[m].is_sharded() || value.placement[m].axis == "batch", "input '",
                  value.name, "' is cut along ", plan_.mesh.axes[m].name,
                  ", but a dataset fills whole samples");
    inputs_.push_back({value.name, value.desc.dtype, value.desc.num_bytes()});
  }
  buffers_.resize(inputs_.size());
}

void Trainer::list_outputs() {
  const Graph& evaluate = plan_.programs[plan_.index_of(kEvaluate)].graph;
  for (const ValueId id : evaluate.outputs()) {
    const Value& value = evaluate.value(id);
    const auto num_elements = static_cast<std::size_t>(value.desc.num_elements());
    TAKT_ASSERT(value.desc.dtype == DType::kF32 && num_elements % samples_.size() == 0, "output '",
                value.name, "' is ", value.desc, ", wanted f32 with the axis batch in front");
    outputs_.push_back({value.name, num_elements / samples_.size(), std::vector<float>(num_elements)});
  }
}

void Trainer::initialize_weights() {
  for (const PersistentValue& value : plan_.table.values()) {
    if (value.role != Role::kParameter) continue;
    world_.note_progress({.doing = "drawing initial weights"});
    std::vector<float> data(static_cast<std::size_t>(value.desc.num_elements()));
    const ParameterInfo& info = value.parameter.value();
    const RandomStream random(config_.seed, value.name);
    for_each_element(value, ranges_of(value, plan_.mesh, executor_->coordinates()),
                     [&](std::int64_t local, std::int64_t global) {
                       const float number = info.init == ParameterInfo::Init::kNormal
                                                ? static_cast<float>(info.std) *
                                                      random.normal(static_cast<std::uint64_t>(global))
                                                : (info.init == ParameterInfo::Init::kOnes ? 1.0f : 0.0f);
                       data[static_cast<std::size_t>(local)] = number;
                     });
    executor_->write(value.name, std::as_bytes(std::span(data)));
  }
  start();
}

// Whatever failed before, what was loaded has not.
void Trainer::start() {
  require_finished("a start");
  const float failed = 0;
  executor_->write(kFailed, std::as_bytes(std::span(&failed, 1)));
  executor_->run(plan_.start);
}

int Trainer::data_rank() const {
  return plan_.mesh.data_rank(executor_->coordinates());
}

void Trainer::load_micro_batch(const Dataset& data, int slot) {
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    Input& input = inputs_[i];
    std::span<std::byte> bytes = executor_->host_view(input.name, slot);
    if (bytes.empty()) {
      input.staging.resize(input.num_bytes);
      bytes = input.staging;
    }
    buffers_[i] = {input.name, input.dtype, bytes};
  }
  data.fill(samples_, buffers_);
  for (std::size_t i = 0; i < inputs_.size(); ++i)
    if (!inputs_[i].staging.empty()) executor_->write(inputs_[i].name, inputs_[i].staging, slot);
}

// Which micro-batches of the global batch are a rank's, says the batch plan.
void Trainer::draw_samples(const DataOrder& order, int micro_batch) {
  const std::int64_t first = cursor_.samples + batch_.first_sample(data_rank(), micro_batch);
  for (std::size_t i = 0; i < samples_.size(); ++i)
    samples_[i] = order.at(first + static_cast<std::int64_t>(i));
}

StepResult Trainer::step(const Dataset& data, const DataOrder& order) {
  require_finished("a step that is waited for");
  start_step(data, order);
  return finish_step();
}

void Trainer::start_step(const Dataset& data, const DataOrder& order) {
  TAKT_ASSERT(num_unfinished_ < static_cast<int>(kReadSlots), "a step begins while ", num_unfinished_,
              " are not finished");
  const StepHyper hyper = hyper_at(config_.optimizer, cursor_.step + 1, config_.steps);
  BegunStep& begun = begun_[static_cast<std::size_t>(cursor_.step + 1) % kReadSlots];
  begun = {.result = {.step = cursor_.step + 1,
                      .samples = cursor_.samples + batch_.samples_a_step,
                      .lr = static_cast<double>(hyper.lr)},
           .start = Clock::now()};
  executor_->reset_times();
  for (const Action& action : plan_.step) run_action(action, hyper, data, order);
  begun.result.sections = sections_since(begun.start);
  for (const auto& [name, time] : executor_->times().ops) {
    if (time.num_calls == 0) continue;
    OpTime& sum = op_times_[name];
    sum.num_calls += time.num_calls;
    sum.time_s += time.time_s;
  }
  cursor_.step += 1;
  cursor_.samples += batch_.samples_a_step;
  ++num_unfinished_;
}

// Before a program runs, its inputs are written: the samples of its micro-batch, or the numbers of this step.
void Trainer::run_action(const Action& action, const StepHyper& hyper, const Dataset& data,
                         const DataOrder& order) {
  const bool is_run = action.kind == Action::Kind::kRun;
  const std::string_view program = plan_.programs[static_cast<std::size_t>(action.program)].name;
  const bool is_last = is_run && program == kLastMicroBatch,
             updates = is_last || (is_run && program == kUpdate);
  const int slot = input_slot(action.micro_batch);
  if (updates) executor_->write(kHyper, std::as_bytes(std::span(&hyper, 1)), slot);
  if (is_last || (is_run && program == kMicroBatch)) {
    draw_samples(order, action.micro_batch);
    world_.note_progress({.doing = "reading data", .step = cursor_.step + 1});
    load_micro_batch(data, slot);
  }
  world_.note_progress({.doing = program});
  if (is_run && program == kUpdate) update_start_ = Clock::now();
  executor_->run(Action{action.kind, action.program, slot});
  if (is_last) update_start_ = Clock::now();
  if (updates)  // outputs are there until the next program runs
    executor_->start_read(kOutputsOfStep, static_cast<std::size_t>(cursor_.step + 1) % kReadSlots);
}

// Slots are used in turn from step to step, so that the next inputs are written while the last ones are read.
int Trainer::input_slot(int micro_batch) const {
  return static_cast<int>((cursor_.step * batch_.num_micro_batches + micro_batch) %
                          static_cast<std::int64_t>(kInputSlots));
}

// A host that runs the programs itself knows by the clock; of a device it is known where programs were timed.
std::optional<StepSections> Trainer::sections_since(Clock::time_point start) const {
  const ExecutionTimes& times = executor_->times();
  if (!times.are_known) return std::nullopt;
  StepSections sections{.forward_backward_s = times.forward_backward_s,
                        .update_s = times.update_s,
                        .collective_s = times.collective_s,
                        .exposed_s = times.exposed_s};
  if (executor_->runs_beside_host()) return sections;
  sections.forward_backward_s = seconds_between(start, update_start_);
  sections.update_s = seconds_between(update_start_, Clock::now());
  return sections;
}

StepResult Trainer::finish_step() {
  TAKT_ASSERT(num_unfinished_ > 0, "no step is unfinished");
  const auto slot = static_cast<std::size_t>(cursor_.step - num_unfinished_ + 1) % kReadSlots;
  std::array<float, 2> numbers = {};
  const std::span<const std::byte> bytes = executor_->finish_read(slot);
  std::memcpy(numbers.data(), bytes.data(), sizeof(numbers));
  BegunStep& begun = begun_[slot];
  begun.result.loss = static_cast<double>(numbers[0]);
  begun.result.grad_norm = static_cast<double>(numbers[1]);
  const Clock::time_point end = Clock::now();
  begun.result.time_s = seconds_between(std::max(begun.start, last_end_), end);
  last_end_ = end;
  --num_unfinished_;
  return begun.result;
}

void Trainer::require_finished(std::string_view for_what) const {
  TAKT_ASSERT(num_unfinished_ == 0, for_what, " wants all steps finished, ", num_unfinished_, " are not");
}

std::string Trainer::first_non_finite() {
  for (const PersistentValue& value : plan_.table.values()) {
    if (value.role != Role::kAccumulator || value.desc.dtype != DType::kF32) continue;
    std::vector<float> numbers(static_cast<std::size_t>(value.desc.num_elements()));
    executor_->read(value.name, std::as_writable_bytes(std::span(numbers)));
    if (std::any_of(numbers.begin(), numbers.end(), [](float number) { return !std::isfinite(number); }))
      return value.of.empty() ? "the loss" : concat("the gradient of '", value.of, "'");
  }
  return {};
}

std::string Trainer::trace_failure(const StepResult& failed, const Dataset& data, const DataOrder& order) {
  require_finished("looking for a number that is not finite");
  const TrainingCursor now = cursor_;
  cursor_.samples = failed.samples - batch_.samples_a_step;
  std::string found;
  for (int m = 0; found.empty() && m < static_cast<int>(batch_.num_micro_batches); ++m) {
    executor_->run({Action::Kind::kClearAccumulators});
    draw_samples(order, m);
    load_micro_batch(data, 0);
    executor_->run(Action{Action::Kind::kRun, static_cast<int>(plan_.index_of(kMicroBatch)), 0});
    const std::string here = first_non_finite();
    double first =
        here.empty() ? 0 : world_.size() - world_.rank();  // the lowest rank has the largest number
    world_.all_reduce(&first, 1, DType::kF64, ReduceOp::kMax, {"who has found it"});
    if (first == 0) continue;
    const int rank = world_.size() - static_cast<int>(first);
    found = concat(share_text(world_, here, rank), " in micro-batch ", m, " on rank ", rank);
  }
  cursor_ = now;
  return found;
}

void Trainer::add_outputs(std::int64_t num_counted, std::span<double> sums) {
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    SampleNumbers& output = outputs_[i];
    executor_->read(output.name, std::as_writable_bytes(std::span(output.numbers)));
    for (const float number :
         std::span(output.numbers).first(static_cast<std::size_t>(num_counted) * output.per_sample))
      sums[i] += static_cast<double>(number);
  }
}

Evaluation Trainer::evaluate(const Dataset& data, std::int64_t num_samples,
                             const std::function<bool()>& stop) {
  require_finished("an evaluation");
  const std::int64_t available = data.num_samples();
  num_samples = num_samples > 0 ? std::min(num_samples, available) : available;
  const std::vector<Figure> figures = task_.figures(data);
  std::vector<double> sums(outputs_.size() + figures.size());  // of losses, of each metric, of weights
  const std::span<double> weights = std::span(sums).subspan(outputs_.size());
  for (std::int64_t first = 0; first < num_samples; first += batch_.samples_a_micro_batch) {
    if (stop && stop()) return {.was_stopped = true};
    const std::int64_t mine = first + data_rank() * batch_.micro_batch;
    const std::int64_t num_counted = std::clamp<std::int64_t>(num_samples - mine, 0, batch_.micro_batch);
    // Past the end there is padding, so that all ranks run the same programs.
    std::fill(samples_.begin(), samples_.end(), kPaddingSample);
    std::iota(samples_.begin(), samples_.begin() + num_counted, mine);
    world_.note_progress({.doing = "validation"});
    load_micro_batch(data, 0);
    executor_->run(plan_.evaluate);
    add_outputs(num_counted, sums);
    for (std::size_t f = 0; f < figures.size(); ++f)
      for (std::int64_t i = 0; i < num_counted; ++i) weights[f] += figures[f].weight(mine + i);
  }
  // Ranks of one data group's other axes hold the same sums: each counts once.
  if (!counts_its_samples()) std::fill(sums.begin(), sums.end(), 0.0);
  world_.all_reduce(sums.data(), sums.size(), DType::kF64, ReduceOp::kSum, {"validation sums"});
  const auto mean = [&](std::size_t i) {
    return sums[i] / (static_cast<double>(num_samples) * static_cast<double>(outputs_[i].per_sample));
  };
  Evaluation evaluation{.loss = mean(0)};
  for (std::size_t i = 1; i < outputs_.size(); ++i)
    evaluation.figures.emplace_back(outputs_[i].name, mean(i));
  for (std::size_t f = 0; f < figures.size(); ++f)
    evaluation.figures.emplace_back(figures[f].name, figures[f].transform(sums[0] / weights[f]));
  return evaluation;
}

bool Trainer::counts_its_samples() const {
  for (std::size_t m = 0; m < plan_.mesh.axes.size(); ++m)
    if (!Mesh::spreads_samples(plan_.mesh.axes[m].name) && executor_->coordinates()[m] != 0) return false;
  return true;
}

std::vector<TensorShard> Trainer::shards() {
  require_finished("a list of weights");
  std::vector<TensorShard> shards;
  for (const PersistentValue& value : plan_.table.values()) {
    if (!is_saved(value)) continue;
    TensorShard shard{.name = value.name, .is_optimizer = value.role == Role::kState};
    const std::vector<AxisRange> ranges = ranges_of(value, plan_.mesh, executor_->coordinates());
    for (std::size_t d = 0; d < ranges.size(); ++d) {
      shard.global_shape.push_back(value.global_dims[d].extent);
      shard.buffer_shape.push_back(value.desc.dims[d].extent);
      // A rank whose whole piece is padding holds an empty region, which begins at the end.
      shard.offset.push_back(std::min(ranges[d].offset, value.global_dims[d].extent));
      shard.extent.push_back(ranges[d].num_valid);
    }
    shard.memory = memory_of(*executor_, value);
    shard.writes = is_first_replica(value.placement, executor_->coordinates());
    shards.push_back(std::move(shard));
  }
  return shards;
}

bool Trainer::weights_are_finite() {
  std::int32_t any_bad = 0;
  for (const PersistentValue& value : plan_.table.values())
    if (value.role == Role::kParameter)
      for (const float weight : read_as<float>(*executor_, value.name))
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
