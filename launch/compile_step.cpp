// compile_step: build, differentiate, add updates, parallelize, bucket, plan memory.
//
// A step is M runs of the micro-batch program and one of the update program. Gradients are summed in
// accumulators, which stay partial sums over the data axis until the update program reduces them once.
#include "launch/compile_step.h"

#include <algorithm>
#include <numeric>

#include "core/models/registry.h"
#include "core/ops/builders.h"
#include "core/passes/autodiff.h"
#include "core/passes/bucket.h"
#include "optimizers/optimizer.h"

namespace takt {
namespace {

constexpr std::string_view kLossSum = "loss_sum";
std::string gradient_name(const std::string& parameter) {
  return "grad." + parameter;
}

// The model with its loss, one number a token.
ValueId build_losses(Graph& graph, const Job& job, std::int64_t num_samples) {
  const TensorDesc ids{{{"batch", num_samples}, {"seq", job.model.seq}}, DType::kI32};
  const ValueId tokens = graph.input(std::string(kTokens), ids),
                targets = graph.input(std::string(kTargets), ids);
  const ValueId logits = find_model(job.model.kind).build(graph, job.model, tokens);
  return cross_entropy(graph, logits, targets, "loss");
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
    const std::string name = gradient_name(graph.value(parameters[i]).name);
    const ValueId buffer = graph.persistent(name, graph.value(parameters[i]).desc, Role::kAccumulator);
    accumulate(graph, buffer, gradients[i], name + ".accumulated");
  }
  return graph.pruned();
}

Graph build_update(const Graph& micro_batch, const Job& job) {
  Graph graph;
  const OptimizerDef& optimizer = find_optimizer(job.optimizer.kind);
  std::vector<ValueId> parameters, gradients, squares;
  const ValueId loss = graph.persistent(std::string(kLossSum), {}, Role::kAccumulator);
  for (const Value& value : micro_batch.values())
    if (value.role == Role::kAccumulator && value.name != kLossSum) {
      gradients.push_back(graph.persistent(value.name, value.desc, Role::kAccumulator));
      const Value& parameter =
          micro_batch.value(micro_batch.find(value.name.substr(gradient_name("").size())).value());
      parameters.push_back(graph.parameter(parameter.name, parameter.desc, parameter.parameter.value()));
    }
  for (const ValueId gradient : gradients)
    squares.push_back(sum_squares(graph, gradient, graph.value(gradient).name + ".square"));
  const ClipFactor clip =
      clip_factor(graph, add(graph, squares, "grad_norm.square"), job.train.grad_clip, "grad_norm");
  const ValueId hyper = graph.input(std::string(kHyper), {{{"hyper", 3}}, DType::kF32});
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    std::vector<ValueId> state;
    for (const std::string& slot : optimizer.slots)
      state.push_back(graph.persistent(state_name(slot, graph.value(parameters[i]).name),
                                       graph.value(parameters[i]).desc, Role::kState));
    optimizer.append(graph, job.optimizer, {parameters[i], gradients[i], hyper, clip.factor}, state);
  }
  graph.mark_output(scale(graph, loss, 1.0, "loss.of_step"));
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
  return {"build", "autodiff", "parallelize", "bucket"};
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

StepPlan compile_step(const Job& job, const Mesh& mesh, int num_threads, const PassObserver& observer) {
  const BatchPlan batch = plan_batch(job, mesh);
  const auto observe = [&](std::string_view pass, std::string_view program, const Graph& graph) {
    verify(graph, pass);
    if (observer) observer(pass, program, graph);
  };
  const Graph micro_batch = build_micro_batch(job, batch, observe);
  StepPlan plan{.mesh = mesh, .num_threads = num_threads, .programs = {}, .arena = {}};
  const std::pair<std::string_view, Graph> programs[] = {{kMicroBatch, micro_batch},
                                                         {kUpdate, build_update(micro_batch, job)},
                                                         {kEvaluate, build_evaluate(job, batch)}};
  const std::size_t bucket_bytes = job.mesh.bucket_bytes > 0 ? static_cast<std::size_t>(job.mesh.bucket_bytes)
                                                             : default_bucket_bytes(mesh.size_of("data"));
  PersistentPlacements persistents;
  for (const auto& [name, global] : programs) {
    observe("autodiff", name, global);
    Graph local = parallelize(global, mesh, default_sharding_rules(), persistents);
    observe("parallelize", name, local);
    local = bucket_all_reduces(local, bucket_bytes);
    observe("bucket", name, local);
    plan.programs.push_back({std::string(name), std::move(local)});
  }
  std::vector<const Graph*> graphs;
  for (const Program& program : plan.programs) graphs.push_back(&program.graph);
  plan.arena = plan_memory(graphs, mesh, num_threads);
  return plan;
}

StepPlan compile_logits(const Job& job, int num_threads) {
  Graph graph;
  const ValueId tokens =
      graph.input(std::string(kTokens), {{{"batch", 1}, {"seq", job.model.seq}}, DType::kI32});
  graph.mark_output(find_model(job.model.kind).build(graph, job.model, tokens));
  StepPlan plan{
      .mesh = {{{"data", 1}, {"tensor", 1}}}, .num_threads = num_threads, .programs = {}, .arena = {}};
  PersistentPlacements persistents;
  plan.programs.push_back({"logits", parallelize(graph, plan.mesh, default_sharding_rules(), persistents)});
  verify(plan.programs[0].graph, "parallelize");
  const Graph* graphs[] = {&plan.programs[0].graph};
  plan.arena = plan_memory(graphs, plan.mesh, num_threads);
  return plan;
}

}  // namespace takt
