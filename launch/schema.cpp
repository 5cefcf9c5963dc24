// The table of keys, and finding a key by what people write. A key is here only if something honours it.
#include "launch/schema.h"

#include <algorithm>
#include <cctype>

#include "core/base/units.h"
#include "core/passes/numerics.h"
#include "core/passes/sharding_rules.h"
#include "core/train/job_task.h"
#include "launch/choose_recompute.h"
#include "optimizers/optimizer.h"
#include "optimizers/schedule.h"

namespace takt {
namespace {

using Keys = std::vector<JobKey>;

constexpr double kMostMicroBatch = 1e6;
constexpr double kMostSteps = 1e12;

template <class Registry>
std::vector<std::string> names_of(const Registry& registry) {
  std::vector<std::string> names;
  for (const auto& entry : registry) names.push_back(entry.name);
  return names;
}

// The kinds that read a key of their own.
template <class Registry>
std::vector<std::string> names_with(const Registry& registry, const std::string& key) {
  std::vector<std::string> names;
  for (const auto& entry : registry)
    if (std::find(entry.keys.begin(), entry.keys.end(), key) != entry.keys.end()) names.push_back(entry.name);
  return names;
}
std::vector<std::string> optimizers_with(const std::string& key) {
  return names_with(optimizer_registry(), key);
}
std::vector<std::string> schedules_with(const std::string& key) {
  return names_with(schedule_registry(), key);
}

template <class Section>
void append(Keys& keys, Section section) {
  for (JobKey& key : section) keys.push_back(std::move(key));
}

Keys top_keys() {
  return {
      text_key(
          "name", [](Job & j) -> auto& { return j.name; }, "Names the run and its directory."),
      seed_key(),
      threads_key(),
  };
}

Keys data_keys() {
  return {
      texts_key(
          "data.train", [](Job & j) -> auto& { return j.data.train; },
          "Training data. gpt: llm.c .bin files, or Megatron prefixes of .bin and .idx. mlp: a folder with "
          "inputs.npy "
          "and targets.npy.")
          .also_known_as({"train_data", "train_files", "path", "data_path"}),
      texts_key(
          "data.valid", [](Job & j) -> auto& { return j.data.valid; }, "Validation data, of the same kinds.")
          .also_known_as({"validation", "val", "eval", "valid_data"}),
  };
}

Keys model_keys() {
  return {
      choice_key(
          "model.kind", [](Job & j) -> auto& { return j.model.kind; }, names_of(task_registry()),
          "gpt: a transformer that predicts the next token. mlp: a perceptron from arrays to arrays."),
      text_key(
          "model.init", [](Job & j) -> auto& { return j.model.init; },
          "A folder or safetensors file to start from. Empty: random weights.")
          .also_known_as({"pretrained", "init_from", "load"}),
  };
}

// The keys that models declare in `table`, each once.
Keys declared_keys(const std::string& table) {
  Keys keys;
  for (const TaskKind& task : task_registry())
    for (const Setting& setting : task.settings()) {
      if (!setting.name.starts_with(table + '.')) continue;
      auto known =
          std::find_if(keys.begin(), keys.end(), [&](const JobKey& k) { return k.name == setting.name; });
      if (known == keys.end()) known = keys.insert(keys.end(), setting_key(setting));
      known->models.push_back(task.name);
    }
  return keys;
}

Keys device_keys() {
  return {
      choice_key(
          "device.backend", [](Job & j) -> auto& { return j.device.backend; }, {"auto", "cpu", "cuda"},
          "What computes. auto: GPUs where there are some and this build can use them, else the CPU.")
          .also_known_as({"device", "accelerator", "kind", "type"}),
      text_key(
          "device.matmul_choices", [](Job & j) -> auto& { return j.device.matmul_choices; },
          "GPUs: file in which the fastest algorithm of each matrix product is kept, measured once. Empty: "
          "the "
          "library's heuristic decides."),
      flag_key(
          "device.time_ops", [](Job & j) -> auto& { return j.device.time_ops; },
          "Times every op: a table at the end and in summary.json. On GPUs also what the columns comm and "
          "exposed want; steps are then a little slower."),
  };
}

// What NCCL is asked for; why, stands in collectives/nccl_settings.h and docs/gpu.md.
Keys nccl_keys() {
  using Registration = NcclSettings::Registration;
  using Policy = NcclSettings::CtaPolicy;
  constexpr double kMostCtas = 64;  // of NCCL
  return {
      whole_key(
          "nccl.min_ctas", [](Job & j) -> auto& { return j.nccl.min_ctas; }, from_to(0, kMostCtas), "",
          "Fewest multiprocessors that a call between GPUs takes. 0: NCCL decides."),
      whole_key(
          "nccl.max_ctas", [](Job & j) -> auto& { return j.nccl.max_ctas; }, from_to(0, kMostCtas), "",
          "Most multiprocessors that a call between GPUs takes from the products beside it. 0: NCCL "
          "decides."),
      whole_key(
          "nccl.nvls_ctas", [](Job & j) -> auto& { return j.nccl.nvls_ctas; }, from_to(0, kMostCtas), "",
          "The same for calls that the NVLink switch reduces. 0: NCCL decides."),
      enum_key<Policy>(
          "nccl.cta_policy", [](Job & j) -> auto& { return j.nccl.cta_policy; },
          {{"default", Policy::kDefault}, {"efficiency", Policy::kEfficiency}, {"zero", Policy::kZero}},
          "efficiency: fewer multiprocessors where bandwidth allows. zero: copy engines, with registration "
          "symmetric."),
      enum_key<Registration>(
          "nccl.registration", [](Job & j) -> auto& { return j.nccl.registration; },
          {{"none", Registration::kNone},
           {"local", Registration::kLocal},
           {"symmetric", Registration::kSymmetric}},
          "How NCCL knows the memory of the plan: not at all, for direct access, or at the same place on all "
          "ranks."),
      flag_key(
          "nccl.reduces_by_domain", [](Job & j) -> auto& { return j.nccl.reduces_by_domain; },
          "All-reduces inside NVLink domains first, then between them."),
  };
}

Keys train_keys() {
  return {
      global_batch_key(),
      whole_key(
          "train.micro_batch", [](Job & j) -> auto& { return j.train.micro_batch; },
          from_to(0, kMostMicroBatch), "samples", "What a rank computes at once. 0: chosen by the plan.")
          .also_known_as({"micro_batch_size", "device_batch_size", "per_device_train_batch_size"}),
      whole_key(
          "train.steps", [](Job & j) -> auto& { return j.train.steps; }, from_to(1, kMostSteps), "",
          "Optimizer steps of the whole run.")
          .also_known_as({"max_steps", "num_steps", "train_iters", "max_iters", "iterations"}),
      choice_key(
          "train.precision", [](Job & j) -> auto& { return j.train.precision; }, {"fp32", "bf16"},
          "What matrix products and attention compute in; weights, sums, norms and the loss stay in fp32.")
          .also_known_as({"dtype", "mixed_precision"}),
      choice_key(
          "train.recompute", [](Job & j) -> auto& { return j.train.recompute; }, recompute_choices(),
          "What of a layer its backward pass computes again instead of keeping it: nothing, all but matrix "
          "products and "
          "attention, or everything. auto: as little as memory allows.")
          .also_known_as({"activation_checkpointing", "gradient_checkpointing", "remat"}),
      choice_key(
          "train.numerics", [](Job & j) -> auto& { return j.train.numerics; },
          {numerics_names().begin(), numerics_names().end()},
          "invariant: every mesh computes the same bits, loss and weights_hash, at some cost in speed and "
          "memory. On "
          "CPUs; tensor must be 1, 2, 4 or 8 and divide mlp and vocab.")
          .also_known_as({"deterministic", "reproducible", "bitwise"}),
      number_key(
          "train.grad_clip", [](Job & j) -> auto& { return j.train.grad_clip; }, at_least(0), "",
          "Largest norm of the whole gradient. 0: off.")
          .also_known_as({"clip_grad", "gradient_clip", "max_grad_norm", "gradient_clipping"}),
  };
}

Keys optimizer_keys() {
  return {
      choice_key(
          "optimizer.kind", [](Job & j) -> auto& { return j.optimizer.kind; }, names_of(optimizer_registry()),
          "Which optimizer. muon updates the matrices of the layers and leaves the rest to AdamW; lamb "
          "leaves norms and "
          "biases to it.")
          .also_known_as({"name", "type"}),
      number_key(
          "optimizer.lr", [](Job & j) -> auto& { return j.optimizer.lr; }, above(0), "",
          "Learning rate after warm-up.")
          .also_known_as({"learning_rate", "max_lr", "base_lr"}),
      betas_key(
          "optimizer.betas", [](Job & j) -> auto& { return j.optimizer.betas; },
          "AdamW and lamb: how slowly the averages of the gradient and of its square change.")
          .only_for("optimizer.kind", optimizers_with("betas"))
          .also_known_as({"beta1", "beta2", "adam_beta1", "adam_beta2"}),
      number_key(
          "optimizer.eps", [](Job & j) -> auto& { return j.optimizer.eps; }, above(0), "",
          "AdamW and lamb: added to the root of the second average.")
          .only_for("optimizer.kind", optimizers_with("eps"))
          .also_known_as({"epsilon", "adam_epsilon", "adam_eps"}),
      betas_key(
          "optimizer.lion_betas", [](Job & j) -> auto& { return j.optimizer.lion_betas; },
          "lion: shares of the average in the direction of a step, and of what it was in the average. lion "
          "wants a third to a tenth of adamw's lr, and as many times its weight_decay.")
          .only_for("optimizer.kind", optimizers_with("lion_betas")),
      number_key(
          "optimizer.muon_momentum", [](Job & j) -> auto& { return j.optimizer.muon_momentum; },
          from_to_below(0, 1), "",
          "muon: share of the last direction that is kept. lr and weight_decay are as for adamw.")
          .only_for("optimizer.kind", optimizers_with("muon_momentum")),
      number_key(
          "optimizer.momentum", [](Job & j) -> auto& { return j.optimizer.momentum; }, from_to_below(0, 1),
          "", "sgd: share of the last update that is kept.")
          .only_for("optimizer.kind", optimizers_with("momentum")),
      number_key(
          "optimizer.weight_decay", [](Job & j) -> auto& { return j.optimizer.weight_decay; }, at_least(0),
          "", "Decoupled. Not applied to norms and biases.")
          .also_known_as({"wd", "decay"}),
  };
}

Keys schedule_keys() {
  return {
      choice_key(
          "optimizer.schedule.kind", [](Job & j) -> auto& { return j.optimizer.schedule.kind; },
          names_of(schedule_registry()), "How the learning rate changes. wsd: warm-up, stable, decay."),
      whole_key(
          "optimizer.schedule.warmup", [](Job & j) -> auto& { return j.optimizer.schedule.warmup; },
          from_to(0, kMostSteps), "steps", "Linear warm-up.")
          .also_known_as({"warmup_steps", "warmup_iters"}),
      number_key(
          "optimizer.schedule.final", [](Job & j) -> auto& { return j.optimizer.schedule.final; },
          from_to(0, 1), "", "linear, cosine, wsd: fraction of lr that the last step has.")
          .only_for("optimizer.schedule.kind", schedules_with("final"))
          .also_known_as({"min_lr", "final_lr", "end"}),
      whole_key(
          "optimizer.schedule.decay", [](Job & j) -> auto& { return j.optimizer.schedule.decay; },
          from_to(0, kMostSteps), "steps", "wsd: length of the decay at the end. 0: a fifth of all steps.")
          .only_for("optimizer.schedule.kind", schedules_with("decay"))
          .also_known_as({"decay_steps", "cooldown"}),
  };
}

Keys run_keys() {
  return {
      layout_key(),
      choice_key(
          "mesh.shard", [](Job & j) -> auto& { return j.mesh.shard; },
          {shard_names().begin(), shard_names().end()},
          "What data ranks share instead of each having a copy: optimizer state and master weights (ZeRO-1), "
          "sums of "
          "gradients too (ZeRO-2), or the weights as well (ZeRO-3).")
          .also_known_as({"zero", "zero_stage", "fsdp", "distributed_optimizer"}),
      whole_key(
          "mesh.shard_group", [](Job & j) -> auto& { return j.mesh.shard_group; }, from_to(0, 1 << 24),
          "ranks",
          "How many data ranks share one copy; groups are replicas of each other (HSDP). 0: all data ranks.")
          .also_known_as({"hsdp", "replicas", "num_distributed_optimizer_instances"}),
      flag_key(
          "mesh.sequence", [](Job & j) -> auto& { return j.mesh.sequence; },
          "Tensor ranks share the tokens between products instead of each having all, where their number "
          "divides "
          "model.seq: less memory, the same bytes sent.")
          .also_known_as({"sequence_parallel", "sp"}),
      bucket_key(),
      checkpoint_every_key(),
      whole_key(
          "checkpoint.keep", [](Job & j) -> auto& { return j.checkpoint.keep; }, from_to(2, 1e6),
          "checkpoints", "The newest ones that stay.")
          .also_known_as({"keep_last", "save_total_limit"}),
      eval_every_key(),
      whole_key(
          "eval.samples", [](Job & j) -> auto& { return j.eval.samples; }, from_to(0, kMostSteps), "samples",
          "How much of the validation set to use. 0: all.")
          .also_known_as({"iters", "eval_iters", "steps"}),
      whole_key(
          "log.every", [](Job & j) -> auto& { return j.log.every; }, from_to(1, kMostSteps), "steps",
          "Between two lines of the console.")
          .also_known_as({"interval", "log_interval", "logging_steps"}),
      choice_key(
          "guard.nan", [](Job & j) -> auto& { return j.guard.nan; }, {"stop", "skip"},
          "What a step does whose loss or gradients are not finite, and whose update is never applied: ends "
          "the run, or is "
          "passed over, up to ten in a row."),
      hang_timeout_key(),
  };
}

std::string_view last_part(std::string_view name) {
  return name.substr(name.rfind('.') + 1);
}

// "optimizer." for "optimizer.lr"; empty at the top level.
std::string_view table_of(std::string_view name) {
  return name.substr(0, name.rfind('.') + 1);
}

// What can stand in the table `prefix` ("optimizer."): its keys and the tables in it.
std::vector<std::string> names_in(std::string_view prefix) {
  std::vector<std::string> names;
  for (const JobKey& key : job_keys()) {
    if (!std::string_view(key.name).starts_with(prefix)) continue;
    const std::string rest = key.name.substr(prefix.size());
    names.push_back(rest.substr(0, rest.find('.')));
  }
  return names;
}

bool has_alias(const JobKey& key, std::string_view word) {
  for (const std::string& alias : key.aliases)
    if (alias == word) return true;
  return false;
}

}  // namespace

const std::vector<JobKey>& job_keys() {
  static const Keys keys = [] {
    Keys all = top_keys();
    for (Keys section :
         {data_keys(), declared_keys("data"), model_keys(), declared_keys("model"), device_keys(),
          nccl_keys(), train_keys(), optimizer_keys(), schedule_keys(), run_keys()})
      append(all, std::move(section));
    return all;
  }();
  return keys;
}

const JobKey* find_job_key(std::string_view name) {
  for (const JobKey& key : job_keys())
    if (key.name == name) return &key;
  return nullptr;
}

const std::vector<RetiredKey>& retired_job_keys() {
  static const std::vector<RetiredKey> keys = {{"data.kind", "tokens"}};
  return keys;
}

bool is_job_table(std::string_view name) {
  const std::string prefix = std::string(name) + '.';
  for (const RetiredKey& key : retired_job_keys())
    if (key.name.starts_with(prefix)) return true;
  for (const JobKey& key : job_keys())
    if (key.name.starts_with(prefix)) return true;
  return false;
}

// Nearest first: another word for a key of the same table, a slip in this table, the key in another table.
std::optional<std::string> suggest_job_key(std::string_view name) {
  const std::string_view word = last_part(name);
  const std::string_view table = table_of(name);
  for (const JobKey& key : job_keys())
    if (table_of(key.name) == table && has_alias(key, word)) return std::string(last_part(key.name));
  if (const auto slip = did_you_mean(word, names_in(table))) return slip;
  for (const JobKey& key : job_keys())
    if (last_part(key.name) == word) return key.name;
  for (const JobKey& key : job_keys())
    if (has_alias(key, word)) return key.name;
  std::vector<std::string> all;
  for (const JobKey& key : job_keys()) all.push_back(key.name);
  return did_you_mean(name, all);
}

std::string environment_name(std::string_view key) {
  std::string name = "TAKT_";
  for (const char c : key)
    name += c == '.' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

}  // namespace takt
