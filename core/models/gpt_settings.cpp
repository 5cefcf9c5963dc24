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

}  // namespace

const std::vector<Setting>& gpt_settings() {
  static const std::vector<Setting> settings = [] {
    std::vector<Setting> all = shape_settings();
    for (Setting setting : function_settings()) all.push_back(std::move(setting));
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
          .init_std = settings.number("model.init_std")};
}

}  // namespace takt
