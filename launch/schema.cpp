// The table of keys, and finding a key by what people write. A key is here only if something honours it.
#include "launch/schema.h"

#include <algorithm>
#include <cctype>

#include "core/base/units.h"
#include "core/models/registry.h"
#include "optimizers/optimizer.h"
#include "optimizers/schedule.h"

namespace takt {
namespace {

using Keys = std::vector<JobKey>;

constexpr double kMostExtent = 1e6;  // of a model's axis: far above any model, far below overflow
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

std::vector<std::string> model_families() {
  std::vector<std::string> names;
  for (const ModelDef& model : model_registry())
    names.insert(names.end(), model.families.begin(), model.families.end());
  return names;
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
          "Training files: llm.c .bin, or Megatron prefixes of .bin and .idx.")
          .also_known_as({"train_data", "train_files", "path", "data_path"}),
      texts_key(
          "data.valid", [](Job & j) -> auto& { return j.data.valid; }, "Validation files, of the same kinds.")
          .also_known_as({"validation", "val", "eval", "valid_data"}),
      text_key(
          "data.tokenizer", [](Job & j) -> auto& { return j.data.tokenizer; },
          "tokenizer.json: decides model.vocab, and turns tokens into text.")
          .also_known_as({"tokenizer_path", "vocab_file"}),
  };
}

Keys model_shape_keys() {
  return {
      choice_key(
          "model.kind", [](Job & j) -> auto& { return j.model.kind; }, names_of(model_registry()),
          "Which model."),
      choice_key(
          "model.family", [](Job & j) -> auto& { return j.model.family; }, model_families(),
          "llama: RMS norm, rotary positions, SwiGLU, grouped queries. gpt2: learned positions, layer norm, "
          "GELU, biases.")
          .also_known_as({"architecture", "arch", "model_type"}),
      whole_key(
          "model.layers", [](Job & j) -> auto& { return j.model.layers; }, from_to(1, kMostExtent), "",
          "Transformer blocks.")
          .also_known_as({"n_layer", "n_layers", "num_layers", "num_hidden_layers", "depth"}),
      whole_key(
          "model.embed", [](Job & j) -> auto& { return j.model.embed; }, from_to(1, kMostExtent), "",
          "Width of the residual stream.")
          .also_known_as({"n_embd", "hidden", "hidden_size", "dim", "d_model", "width", "embed_dim"}),
      whole_key(
          "model.heads", [](Job & j) -> auto& { return j.model.heads; }, from_to(1, kMostExtent), "",
          "Attention heads.")
          .also_known_as({"n_head", "n_heads", "num_heads", "num_attention_heads"}),
      whole_key(
          "model.kv_heads", [](Job & j) -> auto& { return j.model.kv_heads; }, from_to(0, kMostExtent), "",
          "Key and value heads. 0: as many as heads.")
          .also_known_as({"n_kv_heads", "num_kv_heads", "num_key_value_heads"}),
      whole_key(
          "model.mlp", [](Job & j) -> auto& { return j.model.mlp; }, from_to(0, kMostExtent), "",
          "Width of the feed-forward layers. 0: from the family.")
          .also_known_as({"ffn", "ffn_dim", "intermediate_size", "mlp_dim", "hidden_dim"}),
      whole_key(
          "model.vocab", [](Job & j) -> auto& { return j.model.vocab; }, from_to(0, 1e9), "",
          "Tokens in the vocabulary. 0: from the tokenizer.")
          .also_known_as({"vocab_size", "n_vocab"}),
      whole_key(
          "model.seq", [](Job & j) -> auto& { return j.model.seq; }, from_to(1, 1e9), "tokens",
          "Longest sequence.")
          .also_known_as(
              {"block_size", "seq_len", "seq_length", "sequence_length", "context", "max_seq_len"}),
  };
}

Keys model_function_keys() {
  return {
      flag_key(
          "model.tied", [](Job & j) -> auto& { return j.model.tied; },
          "The output projection is the embedding table.")
          .also_known_as({"tie_embeddings", "tie_word_embeddings"}),
      number_key(
          "model.rope_theta", [](Job & j) -> auto& { return j.model.rope_theta; }, above(0), "",
          "llama: base of the rotary wavelengths.")
          .only_for("model.family", {"llama"}),
      number_key(
          "model.norm_eps", [](Job & j) -> auto& { return j.model.norm_eps; }, above(0), "",
          "Added under the root of the norms.")
          .also_known_as({"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"}),
      number_key(
          "model.init_std", [](Job & j) -> auto& { return j.model.init_std; }, at_least(0), "",
          "Standard deviation of the initial weights.")
          .also_known_as({"initializer_range", "init_method_std"}),
      text_key(
          "model.init", [](Job & j) -> auto& { return j.model.init; },
          "A folder or safetensors file to start from. Empty: random weights.")
          .also_known_as({"pretrained", "init_from", "load"}),
  };
}

Keys device_keys() {
  return {
      choice_key(
          "device.backend", [](Job & j) -> auto& { return j.device.backend; }, {"auto", "cpu", "cuda"},
          "What computes. auto: GPUs where there are some and this build can use them, else the CPU.")
          .also_known_as({"device", "accelerator", "kind", "type"}),
  };
}

Keys train_keys() {
  return {
      global_batch_key(),
      whole_key(
          "train.micro_batch", [](Job & j) -> auto& { return j.train.micro_batch; }, from_to(0, kMostExtent),
          "samples", "What a rank computes at once. 0: chosen by the plan.")
          .also_known_as({"micro_batch_size", "device_batch_size", "per_device_train_batch_size"}),
      whole_key(
          "train.steps", [](Job & j) -> auto& { return j.train.steps; }, from_to(1, kMostSteps), "",
          "Optimizer steps of the whole run.")
          .also_known_as({"max_steps", "num_steps", "train_iters", "max_iters", "iterations"}),
      choice_key(
          "train.precision", [](Job & j) -> auto& { return j.train.precision; }, {"fp32", "bf16"},
          "What matrix products and attention compute in; weights, sums, norms and the loss stay in fp32.")
          .also_known_as({"dtype", "mixed_precision"}),
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
          "Which optimizer.")
          .also_known_as({"name", "type"}),
      number_key(
          "optimizer.lr", [](Job & j) -> auto& { return j.optimizer.lr; }, above(0), "",
          "Learning rate after warm-up.")
          .also_known_as({"learning_rate", "max_lr", "base_lr"}),
      betas_key().only_for("optimizer.kind", optimizers_with("betas")),
      number_key(
          "optimizer.eps", [](Job & j) -> auto& { return j.optimizer.eps; }, above(0), "",
          "adamw: added to the root of the second average.")
          .only_for("optimizer.kind", optimizers_with("eps"))
          .also_known_as({"epsilon", "adam_epsilon", "adam_eps"}),
      number_key(
          "optimizer.momentum", [](Job & j) -> auto& { return j.optimizer.momentum; }, from_to_below(0, 1),
          "", "sgd: share of the last update that is kept.")
          .only_for("optimizer.kind", optimizers_with("momentum")),
      number_key(
          "optimizer.weight_decay", [](Job & j) -> auto& { return j.optimizer.weight_decay; }, at_least(0),
          "", "Decoupled. Not applied to norms and biases.")
          .also_known_as({"wd", "decay"}),
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
          "mesh.shard", [](Job & j) -> auto& { return j.mesh.shard; }, {"none", "optimizer"},
          "What data ranks share instead of each having a copy: optimizer state and master weights (ZeRO-1).")
          .also_known_as({"zero", "zero_stage", "fsdp", "distributed_optimizer"}),
      bucket_key(),
      checkpoint_every_key(),
      whole_key(
          "checkpoint.keep", [](Job & j) -> auto& { return j.checkpoint.keep; }, from_to(2, 1e6),
          "checkpoints", "The newest ones that stay.")
          .also_known_as({"keep_last", "save_total_limit"}),
      eval_every_key(),
      whole_key(
          "eval.samples", [](Job & j) -> auto& { return j.eval.samples; }, from_to(0, kMostSteps),
          "samples of model.seq tokens", "How much of the validation set to use. 0: all.")
          .also_known_as({"iters", "eval_iters", "steps"}),
      whole_key(
          "log.every", [](Job & j) -> auto& { return j.log.every; }, from_to(1, kMostSteps), "steps",
          "Between two lines of the console.")
          .also_known_as({"interval", "log_interval", "logging_steps"}),
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
    for (Keys section : {data_keys(), model_shape_keys(), model_function_keys(), device_keys(), train_keys(),
                         optimizer_keys(), run_keys()})
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
  static const std::vector<RetiredKey> keys = {{"data.kind", "tokens"}, {"guard.nan", "stop"}};
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
