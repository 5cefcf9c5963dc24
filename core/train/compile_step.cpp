// compile_step: build, differentiate, add updates, choose precision, derive copies, parallelize, bucket, plan memory.
//
// A step is M runs of the micro-batch program and one of the update program, then of the refresh program where there
// are derived values. Gradients are summed in accumulators, which stay partial sums over the data axis until the update
// program reduces them once. With train.numerics = "invariant" these sums are binary trees: see core/passes/sum_levels.h.
#include "core/train/compile_step.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "core/ops/builders.h"
#include "core/passes/autodiff.h"
#include "core/passes/bucket.h"
#include "core/passes/bundle.h"
#include "core/passes/join_programs.h"
#include "core/passes/ordered_sums.h"
#include "core/passes/schedule.h"
#include "core/passes/sum_levels.h"
#include "core/train/invariance.h"
#include "optimizers/applied_factor.h"
#include "optimizers/copies_in_updates.h"
#include "optimizers/optimizer.h"

namespace takt {
namespace {

constexpr std::string_view kLossSum = "loss_sum";

std::vector<ValueId> parameters_of(const Graph& graph) {
  std::vector<ValueId> parameters;
  for (std::size_t v = 0; v < graph.values().size(); ++v)
    if (graph.values()[v].role == Role::kParameter) parameters.push_back({static_cast<int>(v)});
  return parameters;
}

// The mean over the global batch, of which the graph sees `num_samples`, whatever the mesh.
ValueId mean_of(Graph& graph, ValueId losses, std::int64_t num_samples, std::int64_t samples_a_step,
                const std::string& name) {
  const TensorDesc desc = graph.value(losses).desc;
  AxisNames axes;
  for (const Dim& dim : desc.dims) axes.push_back(dim.axis);
  const ValueId sum = reduce(graph, losses, axes, ReduceOp::kSum, name + ".sum");
  const auto a_step = static_cast<double>(desc.num_elements() / num_samples * samples_a_step);
  return scale(graph, sum, 1.0 / a_step, name + ".mean");
}

struct Losses {
  ValueId reported, objective;  // the objective has the task's penalties, too
};

Losses build_loss(Graph& graph, const Task& task, std::int64_t num_samples, std::int64_t samples_a_step) {
  const TaskOutputs outputs = task.build(graph, num_samples);
  const ValueId loss = mean_of(graph, outputs.losses, num_samples, samples_a_step, "loss");
  if (outputs.penalties.empty()) return {loss, loss};
  std::vector<ValueId> terms = {loss};
  for (const ValueId penalty : outputs.penalties)
    terms.push_back(mean_of(graph, penalty, num_samples, samples_a_step, graph.value(penalty).name));
  return {loss, add(graph, terms, "objective")};
}

// Adds loss and gradients to accumulators.
void append_backward(Graph& graph, const Losses& losses) {
  const std::vector<ValueId> parameters = parameters_of(graph);
  const std::vector<ValueId> gradients = differentiate(graph, losses.objective, parameters);
  const ValueId loss = losses.reported;
  accumulate(graph, graph.persistent(std::string(kLossSum), graph.value(loss).desc, Role::kAccumulator), loss,
             "loss.accumulated");
  // In the order in which the backward pass finishes them, so that buckets fill up in that order.
  std::vector<std::size_t> order(parameters.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return graph.value(gradients[a]).producer.index < graph.value(gradients[b]).producer.index;
  });
  for (const std::size_t i : order) {
    const Value parameter = graph.value(parameters[i]);
    const std::string name = "grad." + parameter.name;
    const ValueId buffer = graph.persistent(name, parameter.desc, Role::kAccumulator, parameter.name);
    graph.set_tag(graph.node(graph.value(gradients[i]).producer).tag);
    accumulate(graph, buffer, gradients[i], name + ".accumulated");
  }
}

// The sum of squares of all gradients. With kInvariant it is exact, and so the same however they are cut.
ValueId build_square(Graph& graph, const std::vector<ValueId>& gradients, Numerics numerics) {
  std::vector<ValueId> squares;
  const bool is_exact = numerics == Numerics::kInvariant;
  for (const ValueId gradient : gradients)
    squares.push_back(
        (is_exact ? exact_squares : sum_squares)(graph, gradient, graph.value(gradient).name + ".square"));
  if (!is_exact) return add(graph, squares, "grad_norm.square");
  return digits_value(graph, add(graph, squares, "grad_norm.digits"), "grad_norm.square");
}

Graph build_update(const Graph& micro_batch, const StepConfig& config) {
  Graph graph;
  std::vector<UpdateInputs> parameters;
  std::vector<ValueId> gradients;
  const Users readers(micro_batch);
  graph.set_tag({-1, Phase::kUpdate});
  const ValueId loss = graph.persistent(std::string(kLossSum), {}, Role::kAccumulator);
  for (const Value& value : micro_batch.values())
    if (value.role == Role::kAccumulator && !value.of.empty()) {
      UpdateInputs& in = parameters.emplace_back();
      in.gradient = graph.persistent(value.name, value.desc, Role::kAccumulator, value.of);
      const ValueId id = micro_batch.find(value.of).value();
      const Value& parameter = micro_batch.value(id);
      in.parameter = graph.parameter(parameter.name, parameter.desc, parameter.parameter.value());
      in.matrix = hidden_matrix(micro_batch, readers, id);
    }
  for (const UpdateInputs& in : parameters) gradients.push_back(in.gradient);
  const ValueId square = build_square(graph, gradients, config.numerics);
  const ClipFactor clip = clip_factor(graph, square, config.grad_clip, std::string(kGradNorm));
  const ValueId loss_of_step = scale(graph, loss, 1.0, std::string(kLossOfStep));
  const ValueId failed = graph.persistent(std::string(kFailed), {}, Role::kDerived);
  const ValueId factor =
      applied_factor(graph, clip.factor, loss_of_step, failed, config.skips_failed_steps, "applied_factor");
  const ValueId hyper = graph.input(std::string(kHyper), {{{"hyper", 3}}, DType::kF32});
  for (UpdateInputs& in : parameters) {
    in.hyper = hyper;
    in.factor = factor;
  }
  append_updates(graph, config.optimizer, std::move(parameters));
  graph.mark_output(loss_of_step);
  graph.mark_output(clip.norm);
  return graph;
}

Graph build_evaluate(const Task& task, std::int64_t num_samples) {
  Graph graph;
  const TaskOutputs outputs = task.build(graph, num_samples);
  graph.mark_output(outputs.losses);
  for (const ValueId metric : outputs.metrics) graph.mark_output(metric);
  return graph;
}

// The same programs for another number of samples at once.
void set_samples(GlobalPrograms& programs, std::int64_t num_samples) {
  if (programs.num_samples == num_samples) return;
  programs.num_samples = num_samples;
  for (GlobalProgram* program : {&programs.micro_batch, &programs.evaluate}) {
    program->graph.set_extent("batch", num_samples);
    *program = GlobalProgram(std::move(program->graph));
    verify(program->graph, program->alike, "another number of samples");
  }
}

std::string carry_name(int level) {
  return concat(kCarry, level);
}

// Takes global programs to the plan of one mesh, one pass after the other.
class PlanBuilder {
 public:
  PlanBuilder(const StepConfig& config, const Mesh& mesh, const RankDevice& device,
              const PassObserver& observer)
      : config_(config), observer_(observer), plan_{.mesh = mesh, .device = device} {}

  void add(std::string_view name, const GlobalProgram& global, const ShardingRules& rules) {
    if (!global.graph.nodes().empty()) add_local(name, parallelized(name, global, rules));
  }
  // The update, and what refreshes copies after it. Where the update can write all of them, the step has no refresh.
  void add_update(const GlobalProgram& update, const GlobalProgram& refresh, const ShardingRules& rules) {
    Graph local = parallelized(kUpdate, update, rules);
    if (refresh.graph.nodes().empty()) return add_local(kUpdate, std::move(local));
    Graph copies = parallelized(kRefresh, refresh, rules);
    refreshes_ = std::any_of(copies.nodes().begin(), copies.nodes().end(),
                             [](const Node& node) { return node.op->communicates; });
    if (!refreshes_) {
      Graph both = with_copies_in_updates(joined(local, copies));
      refreshes_ = both.nodes().size() > local.nodes().size();
      if (!refreshes_) local = std::move(both);
    }
    add_local(kUpdate, std::move(local));
    add_local(kRefresh, std::move(copies));
  }

  StepPlan finished(std::int64_t num_micro_batches) && {
    if (last_micro_batch_) add_local(kLastMicroBatch, with_copies_in_updates(*last_micro_batch_));
    if (has(kConstants)) plan_.start.push_back(run(kConstants));
    if (has(kRefresh)) plan_.start.push_back(run(kRefresh));
    plan_.step.push_back({Action::Kind::kClearAccumulators});
    const auto last = static_cast<int>(num_micro_batches) - 1;
    for (int m = 0; m < last; ++m) {
      plan_.step.push_back(run(kMicroBatch, m));
      for (int level = 0; has(carry_name(0)) && level < num_carries_after(m); ++level)
        plan_.step.push_back(run(carry_name(level)));
    }
    for (const std::string_view name : last_micro_batch_
                                           ? std::vector{kLastMicroBatch}
                                           : std::vector{kMicroBatch, kCollect, kUpdate, kRefresh})
      if (has(name) && (name != kRefresh || refreshes_))
        plan_.step.push_back(run(name, is_after_last(name) ? 0 : last));
    plan_.evaluate = {run(kEvaluate)};
    lay_out(plan_, lives_);
    return std::move(plan_);
  }

 private:
  static bool is_after_last(std::string_view name) {
    return name == kCollect || name == kUpdate || name == kRefresh;
  }
  // What nobody sees is verified once, in the plan that is to run.
  void observe(std::string_view pass, std::string_view program, const Graph& graph) const {
    if (!observer_) return;
    verify(graph, pass);
    observer_(pass, program, graph);
  }
  Graph parallelized(std::string_view name, const GlobalProgram& global, const ShardingRules& rules) {
    Graph local = parallelize(global, plan_.mesh, rules, plan_.table);
    observe("parallelize", name, local);
    const bool is_of_last = name == kMicroBatch || is_after_last(name);
    if (config_.overlap.joins_update && is_of_last)
      last_micro_batch_ = last_micro_batch_ ? joined(*last_micro_batch_, local) : local;
    return local;
  }
  void add_local(std::string_view name, Graph local) {
    local = bundled_by_layer(bucket_all_reduces(std::move(local), bucket_bytes()));
    observe("bucket", name, local);
    Scheduled program = scheduled(std::move(local), plan_.mesh, plan_.device,
                                  {config_.overlap.extra_bytes, temporary_bytes_});
    observe("schedule", name, program.graph);
    add_program(plan_, name, std::move(program.graph));
    temporary_bytes_ = std::max(temporary_bytes_, program.lives.num_bytes);
    lives_.push_back(std::move(program.lives));
  }
  Action run(std::string_view name, int micro_batch = 0) const {
    return {Action::Kind::kRun, static_cast<int>(plan_.index_of(name)), micro_batch};
  }
  bool has(std::string_view name) const {
    return std::any_of(plan_.programs.begin(), plan_.programs.end(),
                       [&](const Program& program) { return program.name == name; });
  }
  std::size_t bucket_bytes() const {
    return config_.bucket_bytes > 0 ? config_.bucket_bytes : default_bucket_bytes(plan_.mesh.data_ranks());
  }

  const StepConfig& config_;
  const PassObserver& observer_;
  std::optional<Graph> last_micro_batch_;  // parallelized; where the update is joined to it
  bool refreshes_ = false;                 // after an update
  std::vector<Lifetimes> lives_;           // of the plan's programs
  std::size_t temporary_bytes_ = 0;        // of the largest so far
  StepPlan plan_;
};

// With more than one level: the programs between them.
void add_levels(PlanBuilder& builder, const Graph& micro_batch, int levels, const ShardingRules& rules) {
  for (int level = 0; level + 1 < levels; ++level)
    builder.add(carry_name(level), GlobalProgram(build_carry(micro_batch, level)), rules);
  if (levels > 1) builder.add(kCollect, GlobalProgram(build_collect(micro_batch, levels)), rules);
}

}  // namespace

std::vector<std::string> pass_names() {
  return {"build",     "autodiff",    "precision", "order",   "derive",
          "recompute", "parallelize", "bucket",    "schedule"};
}

StepCompiler::StepCompiler(const Task& task, StepConfig config, PassObserver observer)
    : task_(task), config_(std::move(config)), observer_(std::move(observer)) {}

void StepCompiler::observe(std::string_view pass, std::string_view program, const Graph& graph) const {
  if (!observer_) return;
  verify(graph, pass);
  observer_(pass, program, graph);
}

// In the config's precision, reading derived values. Masters that are cut are read through whole copies.
GlobalPrograms StepCompiler::build(std::int64_t num_samples, Copies copies) const {
  Graph differentiated;
  const Losses loss = build_loss(differentiated, task_, num_samples, config_.global_batch);
  observe("build", kMicroBatch, differentiated);
  append_backward(differentiated, loss);
  const auto lower = [&](std::string_view name, const Graph& global) {
    observe("autodiff", name, global);
    Graph low = config_.precision == Precision::kF32 ? global : in_bf16(global);
    if (config_.precision != Precision::kF32) observe("precision", name, low);
    if (config_.numerics == Numerics::kFast) return low;
    low = with_ordered_sums(low);
    observe("order", name, low);
    return low;
  };
  const auto derive = [&](std::string_view name, const Graph& lowered) {
    Graph reading = reading_derived(lowered, copies);
    observe("derive", name, reading);
    return reading;
  };
  const Graph micro_batch = lower(kMicroBatch, differentiated.pruned());
  const Graph kept = derive(kMicroBatch, micro_batch);
  Graph training = config_.recompute == Recompute::kNone ? kept : recomputing(kept, config_.recompute);
  observe("recompute", kMicroBatch, training);
  Graph evaluate = derive(kEvaluate, lower(kEvaluate, build_evaluate(task_, num_samples)));
  Graph refresh = build_refresh(micro_batch, kept), constants = build_constants(micro_batch, kept);
  return {.num_samples = num_samples,
          .micro_batch = GlobalProgram(std::move(training)),
          .evaluate = GlobalProgram(std::move(evaluate)),
          .update = GlobalProgram(build_update(micro_batch, config_)),
          .refresh = GlobalProgram(std::move(refresh)),
          .constants = GlobalProgram(std::move(constants))};
}

const GlobalPrograms& StepCompiler::programs(std::int64_t num_samples, Copies copies) {
  const auto known = programs_.find(copies);
  if (known == programs_.end()) return programs_.emplace(copies, build(num_samples, copies)).first->second;
  set_samples(known->second, num_samples);
  return known->second;
}

StepPlan StepCompiler::compile(const Mesh& mesh, const RankDevice& device) {
  StepPlan plan = candidate(mesh, device);
  verify(plan);
  return plan;
}

StepPlan StepCompiler::candidate(const Mesh& mesh, const RankDevice& device) {
  const BatchPlan batch = this->batch(mesh);
  require_invariance(config_, mesh, batch, device);
  // A mesh without a second data rank has nothing to cut masters over, and needs no copies of them; nor does a model that
  // gathers its weights itself.
  const bool keeps_copies =
      (config_.layout.shard == Shard::kOptimizer || config_.layout.shard == Shard::kGradients) &&
      mesh.size_of("data") > 1;
  const GlobalPrograms& global =
      programs(batch.samples_a_micro_batch, keeps_copies ? Copies::kAll : Copies::kCasts);
  PlanBuilder builder(config_, mesh, device, observer_);
  const ShardingRules of_model = model_rules(config_.layout, config_.numerics),
                      of_update = update_rules(config_.layout, config_.numerics);
  builder.add(kMicroBatch, global.micro_batch, of_model);
  if (config_.numerics == Numerics::kInvariant)
    add_levels(builder, global.micro_batch.graph, num_levels(batch.num_micro_batches), of_model);
  builder.add(kEvaluate, global.evaluate, of_model);
  builder.add_update(global.update, global.refresh, of_update);
  builder.add(kConstants, global.constants, of_model);
  return std::move(builder).finished(batch.num_micro_batches);
}

void StepCompiler::set_recompute(Recompute what) {
  if (config_.recompute == what) return;
  config_.recompute = what;
  programs_.clear();
}

std::vector<Dim> StepCompiler::extents_to_divide(const Axis& mesh_axis) const {
  Graph graph;
  task_.build_prediction(graph, 1);
  std::vector<Dim> extents =
      takt::extents_to_divide(graph, model_rules(config_.layout, config_.numerics), mesh_axis);
  std::erase_if(extents, [](const Dim& dim) { return dim.axis == "batch"; });  // the batch plan's matter
  return extents;
}

StepPlan compile_step(const Task& task, const StepConfig& config, const Mesh& mesh, const RankDevice& device,
                      const PassObserver& observer) {
  return StepCompiler(task, config, observer).compile(mesh, device);
}

StepPlan compile_prediction(const Task& task, std::int64_t num_samples, int num_threads) {
  Graph graph;
  graph.mark_output(task.build_prediction(graph, num_samples));
  StepPlan plan{.mesh = {}, .device = num_threads};
  add_program(plan, kPredict, parallelize(graph.pruned(), plan.mesh, {}, plan.table));
  finish(plan);
  return plan;
}

}  // namespace takt
