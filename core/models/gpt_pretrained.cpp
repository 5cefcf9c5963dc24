// A config.json is read whole: every key is compared with [model], or must have the one value that is done
// here, or is known to have no part in what the model computes. A key of none of these kinds is refused:
// architectures that differ from Llama by one more factor say so in one more key (Granite's
// embedding_multiplier, Gemma 2's attn_logit_softcapping), and their tensors have the same names and shapes.
//
// What an absent key means is written in the classes LlamaConfig, MistralConfig, MixtralConfig and GPT2Config of
// transformers. Mistral without a sliding window is Llama, Mixtral is that with mixtures of experts.
#include "core/models/gpt_pretrained.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <vector>

#include "core/base/error.h"

namespace takt {
namespace {

using nlohmann::json;

// A key of [model] and what the file calls it.
struct Compared {
  std::string key;
  std::string job_key;
  json ours;
  json absent;  // what the file means where it has no such key
};

// A key that may only say what is done here.
struct Fixed {
  std::string key;
  std::vector<json> allowed;
  json absent;
};

// No part in logits or loss: other heads, text generation, precision of storage, regularisation, names.
const std::set<std::string_view> kWithoutEffect = {"architectures",
                                                   "attention_dropout",
                                                   "attn_pdrop",
                                                   "bad_words_ids",
                                                   "begin_suppress_tokens",
                                                   "bos_token_id",
                                                   "cache_implementation",
                                                   "chunk_size_feed_forward",
                                                   "decoder_start_token_id",
                                                   "diversity_penalty",
                                                   "do_sample",
                                                   "dtype",
                                                   "early_stopping",
                                                   "embd_pdrop",
                                                   "encoder_no_repeat_ngram_size",
                                                   "eos_token_id",
                                                   "exponential_decay_length_penalty",
                                                   "finetuning_task",
                                                   "forced_bos_token_id",
                                                   "forced_eos_token_id",
                                                   "gradient_checkpointing",
                                                   "id2label",
                                                   "initializer_range",
                                                   "is_decoder",
                                                   "label2id",
                                                   "length_penalty",
                                                   "max_length",
                                                   "max_new_tokens",
                                                   "min_length",
                                                   "model_type",
                                                   "n_ctx",
                                                   "no_repeat_ngram_size",
                                                   "num_beam_groups",
                                                   "num_beams",
                                                   "num_labels",
                                                   "num_return_sequences",
                                                   "output_attentions",
                                                   "output_hidden_states",
                                                   "output_past",
                                                   "output_scores",
                                                   "pad_token_id",
                                                   "prefix",
                                                   "pretraining_tp",
                                                   "problem_type",
                                                   "remove_invalid_values",
                                                   "reorder_and_upcast_attn",
                                                   "repetition_penalty",
                                                   "resid_pdrop",
                                                   "return_dict",
                                                   "return_dict_in_generate",
                                                   "sep_token_id",
                                                   "summary_activation",
                                                   "summary_first_dropout",
                                                   "summary_proj_to_labels",
                                                   "summary_type",
                                                   "summary_use_proj",
                                                   "suppress_tokens",
                                                   "task_specific_params",
                                                   "temperature",
                                                   "tf_legacy_loss",
                                                   "tokenizer_class",
                                                   "top_k",
                                                   "top_p",
                                                   "torch_dtype",
                                                   "torchscript",
                                                   "transformers_version",
                                                   "typical_p",
                                                   "unk_token_id",
                                                   "use_bfloat16",
                                                   "use_cache"};

// One file as it is read: which keys somebody has looked at.
class ConfigFile {
 public:
  ConfigFile(const json& config, std::string source) : config_(config), source_(std::move(source)) {}

  // Null counts as absent, as it does in transformers.
  json value(const std::string& key, const json& absent) {
    seen_.insert(key);
    const auto found = config_.find(key);
    return found == config_.end() || found->is_null() ? absent : *found;
  }
  bool contains(const std::string& key) const { return config_.contains(key); }

  [[noreturn]] void refuse(const std::string& what) const {
    fail(Fault::kData, source_, ": ", what,
         "\n  these weights would train as another function; model.init takes Llama, Mixtral and GPT-2 as "
         "they were "
         "published");
  }
  void refuse_unless_allowed(const Fixed& fixed) {
    const json found = value(fixed.key, fixed.absent);
    if (std::find(fixed.allowed.begin(), fixed.allowed.end(), found) != fixed.allowed.end()) return;
    refuse(concat(fixed.key, " is ", found.dump(), ", which is not done here; wanted ",
                  fixed.allowed.front().dump()));
  }
  void refuse_unknown(const std::vector<Compared>& compared) {
    for (const Compared& key : compared) seen_.insert(key.key);
    for (const auto& [key, found] : config_.items())
      if (!seen_.contains(key) && !kWithoutEffect.contains(key) && !key.starts_with('_') && !found.is_null())
        fail(Fault::kData, source_, ": ", key, " is ", found.dump(),
             ", a key that is not known here\n  it may change what the model computes; where it does not, "
             "take it out of a copy of the file");
  }
  const std::string& source() const { return source_; }

 private:
  const json& config_;
  std::string source_;
  std::set<std::string, std::less<>> seen_;
};

// Files written from fp32 settings have 9.999999747378752e-06 for 1e-5.
bool are_equal(const json& a, const json& b) {
  if (a == b) return true;
  if (!a.is_number_float() || !b.is_number()) return false;
  return static_cast<float>(a.get<double>()) == static_cast<float>(b.get<double>());
}

// Throws kConfig with all keys that differ.
void require_equal(ConfigFile& file, const std::vector<Compared>& keys) {
  std::string text;
  for (const Compared& key : keys) {
    const json found = file.value(key.key, key.absent);
    if (are_equal(found, key.ours)) continue;
    text += concat("\n  ", key.job_key, " is ", key.ours.dump(), ", the file has ", key.key, " = ",
                   found.dump(), file.contains(key.key) ? "" : " (by being without it)");
  }
  if (!text.empty())
    fail(Fault::kConfig, file.source(), ": the [model] table is another model's", text,
         "\n  set [model] as the file has it");
}

// "rope_scaling", or the "rope_parameters" of newer files: only what leaves the wavelengths alone.
void require_plain_rope(ConfigFile& file, const std::string& table_key, double theta,
                        std::vector<Compared>& keys) {
  const json table = file.value(table_key, json::object());
  if (!table.is_object()) file.refuse(concat(table_key, " is ", table.dump(), ", wanted a table"));
  for (const auto& [key, found] : table.items()) {
    const bool is_kind = key == "rope_type" || key == "type";
    if (is_kind ? found == "default" : key == "partial_rotary_factor" && found == 1) continue;
    if (key == "rope_theta") {
      if (!are_equal(found, theta)) keys.push_back({table_key, "model.rope_theta", theta, nullptr});
      continue;
    }
    file.refuse(concat(table_key, " is ", table.dump(), ": rotary positions are not scaled here"));
  }
}

// What files of a family that computes as Llama does mean by being without a key.
struct LlamaDefaults {
  json kv_heads, mlp, rope_theta, norm_eps;
};

LlamaDefaults llama_defaults(const GptConfig& model, const std::string& type) {
  if (type == "mixtral") return {8, 14336, 1e6, 1e-5};
  if (type == "mistral") return {8, 14336, 10000.0, 1e-6};
  return {model.heads, 11008, 10000.0, 1e-6};
}

// How many slots experts have and what weight the routers' losses get is the job's, like all that only training does.
void require_experts(const GptConfig& model, ConfigFile& file, std::vector<Compared>& keys) {
  if (model.experts == 0)
    fail(Fault::kConfig, file.source(), ": model_type is \"mixtral\", but the model has no experts\n  set ",
         "model.experts = ", file.value("num_local_experts", 8).dump());
  keys.push_back({"num_local_experts", "model.experts", model.experts, 8});
  keys.push_back({"num_experts_per_tok", "model.experts_per_token", model.experts_per_token, 2});
  file.refuse_unless_allowed({"router_jitter_noise", {0.0}, 0.0});
  file.value("router_aux_loss_coef", nullptr);
  file.value("output_router_logits", nullptr);
}

void require_llama(const GptConfig& model, ConfigFile& file, const std::string& type) {
  const bool is_mistral = type == "mistral";
  const LlamaDefaults absent = llama_defaults(model, type);
  const std::int64_t head_dim = model.embed / model.heads;
  if (is_mistral && !file.contains("sliding_window"))
    file.refuse("a mistral without the key sliding_window has one of 4096, which is not done here");
  std::vector<Compared> keys = {{"hidden_size", "model.embed", model.embed, 4096},
                                {"num_hidden_layers", "model.layers", model.layers, 32},
                                {"num_attention_heads", "model.heads", model.heads, 32},
                                {"num_key_value_heads", "model.kv_heads", model.kv_heads, absent.kv_heads},
                                {"intermediate_size", "model.mlp", model.mlp, absent.mlp},
                                {"vocab_size", "model.vocab", model.vocab, 32000},
                                {"tie_word_embeddings", "model.tied", model.tied, false},
                                {"rope_theta", "model.rope_theta", model.rope_theta, absent.rope_theta},
                                {"rms_norm_eps", "model.norm_eps", model.norm_eps, absent.norm_eps}};
  if (type == "mixtral") require_experts(model, file, keys);
  if (type != "mixtral" && model.experts > 0)
    fail(Fault::kConfig, file.source(), ": model_type is \"", type,
         "\", which has no experts, but model.experts is ", model.experts, "\n  set model.experts = 0");
  if (file.contains("rope_parameters") && !file.contains("rope_theta"))
    std::erase_if(keys, [](const Compared& key) { return key.key == "rope_theta"; });
  require_plain_rope(file, "rope_scaling", model.rope_theta, keys);
  require_plain_rope(file, "rope_parameters", model.rope_theta, keys);
  for (const Fixed& fixed : std::vector<Fixed>{{"hidden_act", {"silu", "swish"}, "silu"},
                                               {"sliding_window", {nullptr}, nullptr},
                                               {"use_sliding_window", {false}, false},
                                               {"head_dim", {head_dim}, head_dim},
                                               {"partial_rotary_factor", {1}, 1},
                                               {"attention_bias", {false}, false},
                                               {"mlp_bias", {false}, false}})
    file.refuse_unless_allowed(fixed);
  // How long a sequence may be is the job's: rotary positions go on for ever.
  file.value("max_position_embeddings", nullptr);
  file.refuse_unknown(keys);
  require_equal(file, keys);
}

void require_gpt2(const GptConfig& model, ConfigFile& file) {
  for (const Fixed& fixed :
       std::vector<Fixed>{{"activation_function", {"gelu_new", "gelu_pytorch_tanh", "gelu_fast"}, "gelu_new"},
                          {"scale_attn_weights", {true}, true},
                          {"scale_attn_by_inverse_layer_idx", {false}, false}})
    file.refuse_unless_allowed(fixed);
  const std::int64_t mlp_of_file = 4 * model.embed;
  const std::vector<Compared> keys = {{"n_embd", "model.embed", model.embed, 768},
                                      {"n_layer", "model.layers", model.layers, 12},
                                      {"n_head", "model.heads", model.heads, 12},
                                      {"n_positions", "model.seq", model.seq, 1024},
                                      {"n_inner", "model.mlp", model.mlp, mlp_of_file},
                                      {"vocab_size", "model.vocab", model.vocab, 50257},
                                      {"tie_word_embeddings", "model.tied", model.tied, true},
                                      {"layer_norm_epsilon", "model.norm_eps", model.norm_eps, 1e-5}};
  file.refuse_unknown(keys);
  require_equal(file, keys);
}

}  // namespace

void require_same_gpt(const GptConfig& model, const json& config, const std::string& source) {
  if (!config.is_object()) fail(Fault::kData, source, ": holds no JSON object");
  ConfigFile file(config, source);
  const json type = file.value("model_type", "absent");
  const bool is_llama = type == "llama" || type == "mistral" || type == "mixtral";
  if (!is_llama && type != "gpt2")
    file.refuse(
        concat("model_type is ", type.dump(), ", wanted \"llama\", \"mistral\", \"mixtral\" or \"gpt2\""));
  if (is_llama != (model.family == "llama"))
    fail(Fault::kConfig, source, ": model_type is ", type.dump(), ", but model.family is \"", model.family,
         "\"\n  set model.family = \"", is_llama ? "llama" : "gpt2", '"');
  for (const Fixed& fixed : std::vector<Fixed>{{"quantization_config", {nullptr}, nullptr},
                                               {"auto_map", {nullptr}, nullptr},
                                               {"pruned_heads", {nullptr, json::object()}, nullptr},
                                               {"is_encoder_decoder", {false}, false},
                                               {"tie_encoder_decoder", {false}, false},
                                               {"add_cross_attention", {false}, false},
                                               {"cross_attention_hidden_size", {nullptr}, nullptr}})
    file.refuse_unless_allowed(fixed);
  if (is_llama) return require_llama(model, file, type.get<std::string>());
  require_gpt2(model, file);
}

}  // namespace takt
