// The keys of [model] that the GPT reads, and what other programs call them.
#include "core/models/gpt.h"
#include "core/models/model_settings.h"

namespace takt {
namespace {

std::vector<Setting> shape_settings() {
  const GptConfig usual;
  return {
      {.name = "model.family",
       .fallback = usual.family,
       .choices = {"llama", "gpt2"},
       .help = "llama: RMS norm, rotary positions, SwiGLU, grouped queries. gpt2: learned positions, layer "
               "norm, GELU, "
               "biases.",
       .aliases = {"architecture", "arch", "model_type"}},
      layers_setting(),
      embed_setting(),
      {.name = "model.heads",
       .fallback = usual.heads,
       .range = from_to(1, kMostExtent),
       .help = "Attention heads.",
       .aliases = {"n_head", "n_heads", "num_heads", "num_attention_heads"}},
      {.name = "model.kv_heads",
       .fallback = usual.kv_heads,
       .range = from_to(0, kMostExtent),
       .help = "Key and value heads. 0: as many as heads.",
       .aliases = {"n_kv_heads", "num_kv_heads", "num_key_value_heads"}},
      mlp_setting(),
      {.name = "model.vocab",
       .fallback = usual.vocab,
       .range = from_to(0, 1e9),
       .help = "Tokens in the vocabulary. 0: from the tokenizer.",
       .aliases = {"vocab_size", "n_vocab"}},
      {.name = "model.seq",
       .fallback = usual.seq,
       .range = from_to(1, 1e9),
       .unit = "tokens",
       .help = "Longest sequence.",
       .aliases = {"block_size", "seq_len", "seq_length", "sequence_length", "context", "max_seq_len"}},
  };
}

std::vector<Setting> function_settings() {
  const GptConfig usual;
  return {
      {.name = "model.tied",
       .fallback = usual.tied,
       .help = "The output projection is the embedding table.",
       .aliases = {"tie_embeddings", "tie_word_embeddings"}},
      {.name = "model.rope_theta",
       .fallback = usual.rope_theta,
       .range = above(0),
       .help = "Base of the rotary wavelengths of llama.",
       .kind_name = "model.family",
       .kinds = {"llama"}},
      norm_eps_setting(),
      init_std_setting(),
  };
}

std::vector<Setting> expert_settings() {
  const GptConfig usual;
  std::vector<Setting> settings = {
      {.name = "model.experts",
       .fallback = usual.experts,
       .range = from_to(0, kMostExtent),
       .help = "Feed-forward layers a block, of which each token passes through some (Mixtral). 0: one for "
               "all tokens.",
       .aliases = {"num_experts", "num_local_experts", "n_experts", "moe_experts"}},
      {.name = "model.experts_per_token",
       .fallback = usual.experts_per_token,
       .range = from_to(2, kMostExtent),
       .help = "Experts that a token picks.",
       .aliases = {"num_experts_per_tok", "top_k", "moe_top_k", "router_topk"}},
      {.name = "model.capacity_factor",
       .fallback = usual.capacity_factor,
       .range = at_least(0),
       .help = "Slots of an expert in each sample, over what even loads would take; tokens that find none "
               "pass by. 0: a "
               "slot for every token.",
       .aliases = {"moe_capacity_factor", "expert_capacity_factor"}},
      {.name = "model.router_balance",
       .fallback = usual.router_balance,
       .range = at_least(0),
       .help = "Weight of the loss that makes a sample's tokens pick all experts alike.",
       .aliases = {"router_aux_loss_coef", "moe_aux_loss_coeff", "aux_loss_coef"}},
      {.name = "model.router_z",
       .fallback = usual.router_z,
       .range = at_least(0),
       .help = "Weight of the loss that keeps the routers' logits small.",
       .aliases = {"router_z_loss_coef", "moe_z_loss_coeff", "z_loss"}}};
  for (Setting& setting : settings) {
    setting.kind_name = "model.family";
    setting.kinds = {"llama"};
  }
  return settings;
}

}  // namespace

const std::vector<Setting>& gpt_settings() {
  static const std::vector<Setting> settings = [] {
    std::vector<Setting> all = shape_settings();
    for (Setting setting : function_settings()) all.push_back(std::move(setting));
    for (Setting setting : expert_settings()) all.push_back(std::move(setting));
    return all;
  }();
  return settings;
}

GptConfig gpt_config(const Settings& settings) {
  return {.family = settings.text("model.family"),
          .layers = settings.whole("model.layers"),
          .embed = settings.whole("model.embed"),
          .heads = settings.whole("model.heads"),
          .kv_heads = settings.whole("model.kv_heads"),
          .mlp = settings.whole("model.mlp"),
          .vocab = settings.whole("model.vocab"),
          .seq = settings.whole("model.seq"),
          .tied = settings.flag("model.tied"),
          .rope_theta = settings.number("model.rope_theta"),
          .norm_eps = settings.number("model.norm_eps"),
          .init_std = settings.number("model.init_std"),
          .experts = settings.whole("model.experts"),
          .experts_per_token = settings.whole("model.experts_per_token"),
          .capacity_factor = settings.number("model.capacity_factor"),
          .router_balance = settings.number("model.router_balance"),
          .router_z = settings.number("model.router_z")};
}

}  // namespace takt
