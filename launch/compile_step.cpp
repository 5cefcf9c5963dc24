// compile_step: build, differentiate, add updates, choose precision, derive copies, parallelize, bucket, plan memory.
//
// A step is M runs of the micro-batch program and one of the update program, then of the refresh program where there
// are derived values. Gradients are summed in accumulators, which stay partial sums over the data axis until the update
// program reduces them once.
#include "launch/compile_step.h"

#include <algorithm>
#include <numeric>

#include "core/models/registry.h"
#include "core/ops/builders.h"
#include "core/passes/autodiff.h"
#include "core/passes/bucket.h"
#include "core/passes/derive.h"
#include "core/passes/join_programs.h"
#include "core/passes/parallelize.h"
#include "core/passes/precision.h"
#include "core/passes/schedule.h"
#include "optimizers/optimizer.h"

namespace takt {
namespace {

constexpr std::string_view kLossSum = "loss_sum";

// The model with its loss, one number a token.
ValueId build_losses(Graph& graph, const Job& job, std::int64_t num_samples) {
  const TensorDesc ids{{{"batch", num_samples}, {"seq", job.model.seq}}, DType::kI32};
  const ValueId tokens = graph.input(std::string(kTokens), ids),
                targets = graph.input(std::string(kTargets), ids);
  const ValueId logits = find_model(job.model.kind).build(graph, job.model, tokens);
  return cross_entropy(graph, logits, targets, std::string(kLosses));
}

std::vector<ValueId> parameters_of(const Graph& graph) {
  std::vector<ValueId> parameters;
  for (std::size_t v = 0; v < graph.values().size(); ++v)
    if (graph.values()[v].role == Role::kParameter) parameters.push_back({static_cast<int>(v)});
  return parameters;
}

// Loss and gradients are means over the tokens of the global batch, whatever the mesh.
Graph build_micro_batch(const Job& job, const BatchPlan& batch, const PassObserver& observer) {
  Graph graph;
  const ValueId losses = build_losses(graph, job, batch.samples_a_micro_batch);
  const ValueId sum = reduce(graph, losses, {"batch", "seq"}, ReduceOp::kSum, "loss.sum");
  const ValueId loss =
      scale(graph, sum, 1.0 / static_cast<double>(batch.samples_a_step * job.model.seq), "loss.mean");
  observer("build", kMicroBatch, graph);
  const std::vector<ValueId> parameters = parameters_of(graph);
  const std::vector<ValueId> gradients = differentiate(graph, loss, parameters);
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
    accumulate(graph, buffer, gradients[i], name + ".accumulated");
  }
  return graph.pruned();
}

Graph build_update(const Graph& micro_batch, const Job& job) {
  Graph graph;
  const OptimizerDef& optimizer = find_optimizer(job.optimizer.kind);
  std::vector<ValueId> parameters, gradients, squares;
  graph.set_tag({-1, Phase::kUpdate});
  const ValueId loss = graph.persistent(std::string(kLossSum), {}, Role::kAccumulator);
  for (const Value& value : micro_batch.values())
    if (value.role == Role::kAccumulator && !value.of.empty()) {
      gradients.push_back(graph.persistent(value.name, value.desc, Role::kAccumulator, value.of));
      const Value& parameter = micro_batch.value(micro_batch.find(value.of).value());
      parameters.push_back(graph.parameter(parameter.name, parameter.desc, parameter.parameter.value()));
    }
  for (const ValueId gradient : gradients)
    squares.push_back(sum_squares(graph, gradient, graph.value(gradient).name + ".square"));
  const ClipFactor clip = clip_factor(graph, add(graph, squares, "grad_norm.square"), job.train.grad_clip,
                                      std::string(kGradNorm));
  const ValueId hyper = graph.input(std::string(kHyper), {{{"hyper", 3}}, DType::kF32});
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    std::vector<ValueId> state;
    for (const std::string& slot : optimizer.slots)
      state.push_back(graph.persistent(state_name(slot, graph.value(parameters[i]).name),
                                       graph.value(parameters[i]).desc, Role::kState,
                                       graph.value(parameters[i]).name));
    optimizer.append(graph, job.optimizer, {parameters[i], gradients[i], hyper, clip.factor}, state);
  }
  graph.mark_output(scale(graph, loss, 1.0, std::string(kLossOfStep)));
  graph.mark_output(clip.norm);
  return graph;
}

Graph build_evaluate(const Job& job, const BatchPlan& batch) {
  Graph graph;
  graph.mark_output(build_losses(graph, job, batch.samples_a_micro_batch));
  return graph;
}

// The samples a rank computes at once: the largest divisor of its share that keeps activations moderate.
std::int64_t choose_micro_batch(std::int64_t samples_a_rank, std::int64_t seq) {
  constexpr std::int64_t kTokensAtOnce = 2048;
  for (std::int64_t size = std::min(samples_a_rank, std::max<std::int64_t>(1, kTokensAtOnce / seq)); size > 1;
       --size)
    if (samples_a_rank % size == 0) return size;
  return 1;
}

}  // namespace

std::vector<std::string> pass_names() {
  return {"build", "autodiff", "precision", "derive", "parallelize", "bucket", "schedule"};
}

BatchPlan plan_batch(const Job& job, const Mesh& mesh) {
  BatchPlan batch;
  const std::int64_t seq = job.model.seq, data = mesh.size_of("data");
  TAKT_REQUIRE(job.train.global_batch_in_samples || job.train.global_batch_tokens % seq == 0,
               "train.global_batch: ", job.train.global_batch_tokens,
               " tokens are not a multiple of model.seq=", seq,
               "\n  nearest that fit: ", job.train.global_batch_tokens / seq * seq, " or ",
               (job.train.global_batch_tokens / seq + 1) * seq);
  batch.samples_a_step =
      job.train.global_batch_in_samples ? job.train.global_batch_tokens : job.train.global_batch_tokens / seq;
  TAKT_REQUIRE(batch.samples_a_step % data == 0, "train.global_batch: ", batch.samples_a_step,
               " samples cannot be split over data=", data,
               "\n  nearest that fit: ", std::max<std::int64_t>(1, batch.samples_a_step / data) * data,
               " or ", (batch.samples_a_step / data + 1) * data, " samples");
  const std::int64_t samples_a_rank = batch.samples_a_step / data;
  batch.micro_batch =
      job.train.micro_batch > 0 ? job.train.micro_batch : choose_micro_batch(samples_a_rank, seq);
  TAKT_REQUIRE(samples_a_rank % batch.micro_batch == 0, "train.micro_batch: a rank's ", samples_a_rank,
               " samples are not a multiple of ", batch.micro_batch);
  batch.num_micro_batches = samples_a_rank / batch.micro_batch;
  batch.samples_a_micro_batch = batch.micro_batch * data;
  return batch;
}

namespace {

// Takes global programs to the plan, one pass after the other.
class PlanBuilder {
 public:
  PlanBuilder(const Job& job, const Mesh& mesh, int num_threads, const PassObserver& observer,
              const Overlap& overlap)
      : job_(job), observer_(observer), overlap_(overlap), plan_{.mesh = mesh, .num_threads = num_threads} {}

  void observe(std::string_view pass, std::string_view program, const Graph& graph) const {
    verify(graph, pass);
    if (observer_) observer_(pass, program, graph);
  }

  // In the job's precision, reading derived values. Masters that are cut are read through whole copies.
  Graph lower(std::string_view name, const Graph& global) const {
    observe("autodiff", name, global);
    if (find_precision(job_.train.precision) == Precision::kF32) return global;
    Graph low = in_bf16(global);
    observe("precision", name, low);
    return low;
  }

  Graph derive(std::string_view name, const Graph& lowered) const {
    Graph reading = reading_derived(lowered, cuts_masters() ? Copies::kAll : Copies::kCasts);
    observe("derive", name, reading);
    return reading;
  }

  // Parameters and state are cut as mesh.shard says where they are updated; activations never are.
  void add(std::string_view name, const Graph& global, Shard shard) {
    if (global.nodes().empty()) return;
    Graph local = parallelize(global, plan_.mesh, sharding_rules(shard), plan_.table);
    observe("parallelize", name, local);
    const bool is_of_last = name == kMicroBatch || name == kUpdate || name == kRefresh;
    if (overlap_.joins_update && is_of_last)
      last_micro_batch_ = last_micro_batch_ ? joined(*last_micro_batch_, local) : local;
    add_local(name, local);
  }

  void add_local(std::string_view name, Graph local) {
    local = bucket_all_reduces(local, bucket_bytes());
    observe("bucket", name, local);
    local = scheduled(local, plan_.mesh, plan_.num_threads, overlap_.extra_bytes);
    observe("schedule", name, local);
    add_program(plan_, name, std::move(local));
  }

  StepPlan finished(std::int64_t num_micro_batches) && {
    const auto program = [&](std::string_view name, int micro_batch = 0) {
      return Action{Action::Kind::kRun, static_cast<int>(plan_.index_of(name)), micro_batch};
    };
    const auto has = [&](std::string_view name) {
      return std::any_of(plan_.programs.begin(), plan_.programs.end(),
                         [&](const Program& p) { return p.name == name; });
    };
    if (last_micro_batch_) add_local(kLastMicroBatch, *last_micro_batch_);
    if (has(kConstants)) plan_.start.push_back(program(kConstants));
    if (has(kRefresh)) plan_.start.push_back(program(kRefresh));
    plan_.step.push_back({Action::Kind::kClearAccumulators});
    const auto last = static_cast<int>(num_micro_batches) - 1;
    for (int m = 0; m < last; ++m) plan_.step.push_back(program(kMicroBatch, m));
    if (last_micro_batch_) {
      plan_.step.push_back(program(kLastMicroBatch, last));
    } else {
      plan_.step.push_back(program(kMicroBatch, last));
      plan_.step.push_back(program(kUpdate));
      if (has(kRefresh)) plan_.step.push_back(program(kRefresh));
    }
    plan_.evaluate = {program(kEvaluate)};
    finish(plan_);
    return std::move(plan_);
  }

 private:
  // A mesh without a second data rank has nothing to cut masters over, and needs no copies of them.
  bool cuts_masters() const {
    return find_shard(job_.mesh.shard) != Shard::kNone && plan_.mesh.size_of("data") > 1;
  }

  std::size_t bucket_bytes() const {
    return job_.mesh.bucket_bytes > 0 ? static_cast<std::size_t>(job_.mesh.bucket_bytes)
                                      : default_bucket_bytes(plan_.mesh.size_of("data"));
  }

  const Job& job_;
  const PassObserver& observer_;
  const Overlap& overlap_;
  std::optional<Graph> last_micro_batch_;  // parallelized; where the update is joined to it
  StepPlan plan_;
};

}  // namespace

StepPlan compile_step(const Job& job, const Mesh& mesh, int num_threads, const PassObserver& observer,
                      const Overlap& overlap) {
  const BatchPlan batch = plan_batch(job, mesh);
  PlanBuilder builder(job, mesh, num_threads, observer, overlap);
  const auto observe = [&](auto... arguments) { builder.observe(arguments...); };
  const Graph micro_batch = builder.lower(kMicroBatch, build_micro_batch(job, batch, observe));
  const Graph evaluate = builder.lower(kEvaluate, build_evaluate(job, batch));
  const Graph training = builder.derive(kMicroBatch, micro_batch);
  builder.add(kMicroBatch, training, Shard::kNone);
  builder.add(kEvaluate, builder.derive(kEvaluate, evaluate), Shard::kNone);
  builder.add(kUpdate, build_update(micro_batch, job), find_shard(job.mesh.shard));
  builder.add(kRefresh, build_refresh(micro_batch, training), find_shard(job.mesh.shard));
  builder.add(kConstants, build_constants(micro_batch, training), Shard::kNone);
  return std::move(builder).finished(batch.num_micro_batches);
}

StepPlan compile_logits(const Job& job, int num_threads) {
  Graph graph;
  const ValueId tokens =
      graph.input(std::string(kTokens), {{{"batch", 1}, {"seq", job.model.seq}}, DType::kI32});
  graph.mark_output(find_model(job.model.kind).build(graph, job.model, tokens));
  StepPlan plan{.mesh = {}, .num_threads = num_threads};
  add_program(plan, "logits", parallelize(graph, plan.mesh, {}, plan.table));
  finish(plan);
  return plan;
}

}  // namespace takt
