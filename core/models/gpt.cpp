// gpt: x += attention(norm(x)); x += mlp(norm(x)), a number of times, between an embedding and a projection
//
// Llama     RMS norm, rotary positions, grouped queries, SwiGLU, no biases.    Touvron et al. 2023, arXiv:2302.13971.
// Mixtral   Llama with mixtures of experts for MLPs, see mixture.cpp.           Jiang et al. 2024, arXiv:2401.04088.
// GPT-2     layer norm, learned positions, GELU, biases, tied embedding.       Radford et al. 2019.
//
// Parameters are declared in the storage layout of Hugging Face, so that exporting is copying: Llama's linear layers are
// [out, in], GPT-2's are [in, out] with query, key and value side by side along the output.
#include "core/models/gpt.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/models/mixture.h"
#include "core/ops/builders.h"

namespace takt {
namespace {

// Slots of an expert for a sample of `seq` tokens.
std::int64_t expert_capacity(const GptConfig& c, std::int64_t seq) {
  if (c.capacity_factor == 0) return seq;
  const double even = static_cast<double>(seq * c.experts_per_token) / static_cast<double>(c.experts);
  return std::clamp(static_cast<std::int64_t>(std::ceil(c.capacity_factor * even)), std::int64_t{1}, seq);
}

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

  GptOutputs llama(ValueId tokens);
  GptOutputs gpt2(ValueId tokens);

 private:
  ValueId llama_attention(ValueId x, ValueId turns, const std::string& layer);
  ValueId llama_mlp(ValueId x, const std::string& layer);
  ValueId llama_mixture(ValueId x, const std::string& layer);
  ValueId gpt2_attention(ValueId x, const std::string& layer);
  ValueId gpt2_mlp(ValueId x, const std::string& layer);
  ValueId vocab_table(const std::string& name) {
    return weight(name, {{"vocab", config_.vocab}, {"embed", config_.embed}}, {config_.vocab, config_.embed});
  }
  ValueId logits(ValueId x, ValueId table) {
    return matmul(graph_, x, table, {"batch", "seq", "vocab"}, "logits");
  }
  GptOutputs outputs(ValueId logits) {
    if (router_losses_.empty()) return {logits};
    return {logits, add(graph_, router_losses_, "router_loss")};
  }

  // Projections back into the residual stream start smaller, so that its variance does not grow with depth.
  double residual_scale() const { return 1.0 / std::sqrt(2.0 * static_cast<double>(config_.layers)); }
  std::int64_t head_dim() const { return config_.embed / config_.heads; }

  Graph& graph_;
  const GptConfig& config_;
  std::vector<ValueId> router_losses_;  // of layers
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

// The mean over layers, so that the weights of its losses mean the same in models of any depth.
ValueId Builder::llama_mixture(ValueId x, const std::string& layer) {
  const double a_layer = 1.0 / static_cast<double>(config_.layers);
  const Mixture mixture =
      build_mixture(graph_,
                    {.experts = config_.experts,
                     .experts_per_token = config_.experts_per_token,
                     .capacity = expert_capacity(config_, graph_.value(x).desc.extent("seq")),
                     .mlp = config_.mlp,
                     .balance = config_.router_balance * a_layer,
                     .z = config_.router_z * a_layer,
                     .std = config_.init_std,
                     .std_out = config_.init_std * residual_scale()},
                    x, layer + "block_sparse_moe.");
  router_losses_.push_back(mixture.router_loss);
  return mixture.y;
}

GptOutputs Builder::llama(ValueId tokens) {
  const ValueId table = vocab_table("model.embed_tokens.weight");
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
    const ValueId normed = norm(layer + "post_attention_layernorm");
    const ValueId y = config_.experts > 0 ? llama_mixture(normed, layer) : llama_mlp(normed, layer);
    x = add(graph_, {x, y}, layer + "mlp.residual");
  }
  return outputs(logits(norm("model.norm"), config_.tied ? table : vocab_table("lm_head.weight")));
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

GptOutputs Builder::gpt2(ValueId tokens) {
  const ValueId table = vocab_table("transformer.wte.weight");
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
  return outputs(logits(norm("transformer.ln_f"), config_.tied ? table : vocab_table("lm_head.weight")));
}

void require_experts(const GptConfig& c) {
  if (c.experts == 0) return;
  TAKT_REQUIRE(c.family == "llama", "model.experts is ", c.experts,
               ", but gpt2 has one feed-forward layer for all tokens\n  set model.family = \"llama\"");
  TAKT_REQUIRE(
      c.experts_per_token >= 2 && c.experts_per_token <= c.experts, "model.experts_per_token is ",
      c.experts_per_token, ", wanted 2 to model.experts (", c.experts,
      "): weights of the picked experts sum to 1, and a router that picks one learns nothing from it");
  TAKT_REQUIRE(c.capacity_factor >= 0, "model.capacity_factor is ", c.capacity_factor, ", wanted at least 0");
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
  require_experts(c);
  return c;
}

GptOutputs build_gpt(Graph& graph, const GptConfig& config, ValueId tokens) {
  Builder builder(graph, config);
  return config.family == "llama" ? builder.llama(tokens) : builder.gpt2(tokens);
}

std::string hugging_face_config(const GptConfig& c, int end_of_text) {
  nlohmann::ordered_json json;
  const bool llama = c.family == "llama", mixtral = c.experts > 0;
  json["architectures"] = {mixtral ? "MixtralForCausalLM" : llama ? "LlamaForCausalLM" : "GPT2LMHeadModel"};
  json["model_type"] = mixtral ? "mixtral" : c.family;
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
    if (mixtral) {
      json["num_local_experts"] = c.experts;
      json["num_experts_per_tok"] = c.experts_per_token;
      json["router_aux_loss_coef"] = c.router_balance;
      json["sliding_window"] = nullptr;
    } else {
      json["attention_bias"] = false;
      json["mlp_bias"] = false;
    }
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
