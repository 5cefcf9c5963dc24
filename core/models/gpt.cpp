// gpt: x += attention(norm(x)); x += mlp(norm(x)), a number of times, between an embedding and a projection
//
// Llama     RMS norm, rotary positions, grouped queries, SwiGLU, no biases.    Touvron et al. 2023, arXiv:2302.13971.
// GPT-2     layer norm, learned positions, GELU, biases, tied embedding.       Radford et al. 2019.
//
// Parameters are declared in the storage layout of Hugging Face, so that exporting is copying: Llama's linear layers are
// [out, in], GPT-2's are [in, out] with query, key and value side by side along the output.
#include "core/models/gpt.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/ops/builders.h"

namespace takt {
namespace {

using Init = ParameterInfo::Init;

// Declares parameters of one model under one prefix.
class Builder {
 public:
  Builder(Graph& graph, const GptConfig& config) : graph_(graph), config_(config) {}

  ValueId weight(const std::string& name, Dims dims, std::vector<std::int64_t> shape,
                 double std_scale = 1.0) {
    return graph_.parameter(
        name, {std::move(dims), DType::kF32},
        {.init = Init::kNormal, .std = config_.init_std * std_scale, .export_shape = std::move(shape)});
  }
  ValueId gain(const std::string& name) {
    return graph_.parameter(name, {{{"embed", config_.embed}}, DType::kF32},
                            {.init = Init::kOnes, .decays = false});
  }
  ValueId bias(const std::string& name, Dims dims) {
    const std::int64_t extent = num_elements(dims);
    return graph_.parameter(name, {std::move(dims), DType::kF32},
                            {.init = Init::kZeros, .decays = false, .export_shape = {extent}});
  }

  ValueId llama(ValueId tokens);
  ValueId gpt2(ValueId tokens);

 private:
  ValueId llama_attention(ValueId x, ValueId turns, const std::string& layer);
  ValueId llama_mlp(ValueId x, const std::string& layer);
  ValueId gpt2_attention(ValueId x, const std::string& layer);
  ValueId gpt2_mlp(ValueId x, const std::string& layer);
  ValueId logits(ValueId x, ValueId table) {
    return matmul(graph_, x, table, {"batch", "seq", "vocab"}, "logits");
  }

  // Projections back into the residual stream start smaller, so that its variance does not grow with depth.
  double residual_scale() const { return 1.0 / std::sqrt(2.0 * static_cast<double>(config_.layers)); }
  std::int64_t head_dim() const { return config_.embed / config_.heads; }

  Graph& graph_;
  const GptConfig& config_;
};

ValueId Builder::llama_attention(ValueId x, ValueId turns, const std::string& layer) {
  const std::int64_t e = config_.embed, q_out = config_.heads * head_dim(),
                     kv_out = config_.kv_heads * head_dim();
  const auto projection = [&](const std::string& name, const std::string& heads, std::int64_t num_heads,
                              std::int64_t out) {
    const ValueId w = weight(layer + "self_attn." + name + "_proj.weight",
                             {{heads, num_heads}, {"head_dim", head_dim()}, {"embed", e}}, {out, e});
    return matmul(graph_, x, w, {"batch", "seq", heads, "head_dim"}, layer + name);
  };
  ValueId q = projection("q", "heads", config_.heads, q_out);
  ValueId k = projection("k", "kv_heads", config_.kv_heads, kv_out);
  const ValueId v = projection("v", "kv_heads", config_.kv_heads, kv_out);
  q = rotary(graph_, q, turns, layer + "q.rotary");
  k = rotary(graph_, k, turns, layer + "k.rotary");
  const ValueId y = attention(graph_, q, k, v, layer + "attention");
  const ValueId out = weight(layer + "self_attn.o_proj.weight",
                             {{"embed", e}, {"heads", config_.heads}, {"head_dim", head_dim()}}, {e, q_out},
                             residual_scale());
  return matmul(graph_, y, out, {"batch", "seq", "embed"}, layer + "o");
}

ValueId Builder::llama_mlp(ValueId x, const std::string& layer) {
  const std::int64_t e = config_.embed, m = config_.mlp;
  const auto widen = [&](const std::string& name) {
    const ValueId w = weight(layer + "mlp." + name + "_proj.weight", {{"mlp", m}, {"embed", e}}, {m, e});
    return matmul(graph_, x, w, {"batch", "seq", "mlp"}, layer + name);
  };
  const ValueId gate = widen("gate"), up = widen("up");
  const ValueId h = gated_silu(graph_, gate, up, layer + "gated");
  const ValueId down =
      weight(layer + "mlp.down_proj.weight", {{"embed", e}, {"mlp", m}}, {e, m}, residual_scale());
  return matmul(graph_, h, down, {"batch", "seq", "embed"}, layer + "down");
}

ValueId Builder::llama(ValueId tokens) {
  const ValueId table =
      weight("model.embed_tokens.weight", {{"vocab", config_.vocab}, {"embed", config_.embed}},
             {config_.vocab, config_.embed});
  ValueId x = embedding(graph_, table, tokens, "embedding");
  const ValueId turns = rotary_table(graph_, graph_.value(tokens).desc.extent("seq"), head_dim() / 2,
                                     config_.rope_theta, "rotary");
  const auto norm = [&](const std::string& name) {
    return rms_norm(graph_, x, gain(name + ".weight"), config_.norm_eps, name);
  };
  for (std::int64_t i = 0; i < config_.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    const BlockScope block(graph_, static_cast<int>(i));
    x = add(graph_, {x, llama_attention(norm(layer + "input_layernorm"), turns, layer)},
            layer + "attention.residual");
    x = add(graph_, {x, llama_mlp(norm(layer + "post_attention_layernorm"), layer)}, layer + "mlp.residual");
  }
  x = norm("model.norm");
  if (config_.tied) return logits(x, table);
  return logits(x, weight("lm_head.weight", {{"vocab", config_.vocab}, {"embed", config_.embed}},
                          {config_.vocab, config_.embed}));
}

ValueId Builder::gpt2_attention(ValueId x, const std::string& layer) {
  const std::int64_t e = config_.embed;
  const Dims heads = {{"heads", config_.heads}, {"head_dim", head_dim()}};
  const ValueId w =
      weight(layer + "attn.c_attn.weight", {{"embed", e}, {"qkv", 3}, heads[0], heads[1]}, {e, 3 * e});
  const ValueId qkv = matmul(graph_, x, w, {"batch", "seq", "qkv", "heads", "head_dim"}, layer + "qkv",
                             {.bias = bias(layer + "attn.c_attn.bias", {{"qkv", 3}, heads[0], heads[1]})});
  const std::vector<ValueId> parts = unstack(graph_, qkv, "qkv", layer + "qkv.part");
  const auto kv = [&](ValueId part, const std::string& name) {
    return rename(graph_, part, "heads", "kv_heads", layer + name);
  };
  const ValueId y = attention(graph_, parts[0], kv(parts[1], "k"), kv(parts[2], "v"), layer + "attention");
  const ValueId out =
      weight(layer + "attn.c_proj.weight", {heads[0], heads[1], {"embed", e}}, {e, e}, residual_scale());
  return matmul(graph_, y, out, {"batch", "seq", "embed"}, layer + "o",
                {.bias = bias(layer + "attn.c_proj.bias", {{"embed", e}})});
}

ValueId Builder::gpt2_mlp(ValueId x, const std::string& layer) {
  const std::int64_t e = config_.embed, m = config_.mlp;
  const ValueId w = weight(layer + "mlp.c_fc.weight", {{"embed", e}, {"mlp", m}}, {e, m});
  const ValueId h = matmul(graph_, x, w, {"batch", "seq", "mlp"}, layer + "fc",
                           {.bias = bias(layer + "mlp.c_fc.bias", {{"mlp", m}}), .activation = "gelu"});
  const ValueId out =
      weight(layer + "mlp.c_proj.weight", {{"mlp", m}, {"embed", e}}, {m, e}, residual_scale());
  return matmul(graph_, h, out, {"batch", "seq", "embed"}, layer + "proj",
                {.bias = bias(layer + "mlp.c_proj.bias", {{"embed", e}})});
}

ValueId Builder::gpt2(ValueId tokens) {
  const ValueId table = weight("transformer.wte.weight", {{"vocab", config_.vocab}, {"embed", config_.embed}},
                               {config_.vocab, config_.embed});
  const ValueId positions = weight("transformer.wpe.weight", {{"seq", config_.seq}, {"embed", config_.embed}},
                                   {config_.seq, config_.embed});
  ValueId x = add(graph_, {embedding(graph_, table, tokens, "embedding"), positions}, "positions");
  const auto norm = [&](const std::string& name) {
    const ValueId w = gain(name + ".weight");
    return layer_norm(graph_, x, w, bias(name + ".bias", {{"embed", config_.embed}}), config_.norm_eps, name);
  };
  for (std::int64_t i = 0; i < config_.layers; ++i) {
    const std::string layer = "transformer.h." + std::to_string(i) + ".";
    const BlockScope block(graph_, static_cast<int>(i));
    x = add(graph_, {x, gpt2_attention(norm(layer + "ln_1"), layer)}, layer + "attention.residual");
    x = add(graph_, {x, gpt2_mlp(norm(layer + "ln_2"), layer)}, layer + "mlp.residual");
  }
  x = norm("transformer.ln_f");
  if (config_.tied) return logits(x, table);
  return logits(x, weight("lm_head.weight", {{"vocab", config_.vocab}, {"embed", config_.embed}},
                          {config_.vocab, config_.embed}));
}

}  // namespace

GptConfig complete_gpt(GptConfig c) {
  const bool llama = c.family == "llama";
  TAKT_REQUIRE(llama || c.family == "gpt2", "model.family is '", c.family, "'; llama and gpt2 are known");
  if (c.kv_heads == 0) c.kv_heads = c.heads;
  // Llama's SwiGLU has three matrices where GPT-2's MLP has two: 8/3 embed keeps the size, rounded for the
  // hardware.
  if (c.mlp == 0) c.mlp = llama ? (8 * c.embed / 3 + 31) / 32 * 32 : 4 * c.embed;
  TAKT_REQUIRE(c.layers > 0 && c.embed > 0 && c.heads > 0 && c.vocab > 0 && c.seq > 0,
               "model: layers, embed, heads, vocab and seq must be positive, got ", c.layers, ", ", c.embed,
               ", ", c.heads, ", ", c.vocab, " and ", c.seq);
  TAKT_REQUIRE(c.embed % c.heads == 0, "model.embed ", c.embed, " is not a multiple of model.heads ", c.heads,
               "\n  nearest that fits: embed = ", (c.embed / c.heads + 1) * c.heads);
  TAKT_REQUIRE(c.heads % c.kv_heads == 0, "model.heads ", c.heads, " is not a multiple of model.kv_heads ",
               c.kv_heads, "\n  each key and value head serves the same number of heads");
  TAKT_REQUIRE(!llama || c.embed / c.heads % 2 == 0, "model.embed / model.heads is ", c.embed / c.heads,
               ", wanted an even number: rotary positions turn pairs of elements");
  TAKT_REQUIRE(llama || c.kv_heads == c.heads, "model.kv_heads is ", c.kv_heads,
               ", wanted as many as model.heads (", c.heads, "): gpt2 has no grouped queries");
  return c;
}

ValueId build_gpt(Graph& graph, const GptConfig& config, ValueId tokens) {
  Builder builder(graph, config);
  return config.family == "llama" ? builder.llama(tokens) : builder.gpt2(tokens);
}

std::string hugging_face_config(const GptConfig& c, int end_of_text) {
  nlohmann::ordered_json json;
  const bool llama = c.family == "llama";
  json["architectures"] = {llama ? "LlamaForCausalLM" : "GPT2LMHeadModel"};
  json["model_type"] = llama ? "llama" : "gpt2";
  json["vocab_size"] = c.vocab;
  json["tie_word_embeddings"] = c.tied;
  json["torch_dtype"] = "float32";
  json["bos_token_id"] = end_of_text;
  json["eos_token_id"] = end_of_text;
  if (llama) {
    json["hidden_size"] = c.embed;
    json["intermediate_size"] = c.mlp;
    json["num_hidden_layers"] = c.layers;
    json["num_attention_heads"] = c.heads;
    json["num_key_value_heads"] = c.kv_heads;
    json["max_position_embeddings"] = c.seq;
    json["rms_norm_eps"] = c.norm_eps;
    json["rope_theta"] = c.rope_theta;
    json["hidden_act"] = "silu";
    json["attention_bias"] = false;
    json["mlp_bias"] = false;
  } else {
    json["n_embd"] = c.embed;
    json["n_inner"] = c.mlp;
    json["n_layer"] = c.layers;
    json["n_head"] = c.heads;
    json["n_positions"] = c.seq;
    json["layer_norm_epsilon"] = c.norm_eps;
    json["activation_function"] = "gelu_new";
  }
  return json.dump(2) + "\n";
}

}  // namespace takt
