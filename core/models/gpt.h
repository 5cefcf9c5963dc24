// gpt: decoder-only transformers of the GPT-2 and Llama families.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/setting.h"
#include "core/graph/graph.h"

namespace takt {

// Extents of 0 are derived: kv_heads = heads, mlp from the family, vocab from the tokenizer.
struct GptConfig {
  std::string family = "llama";  // "llama": RMS norm, rotary, SwiGLU, grouped queries; "gpt2": learned
                                 // positions, layer norm, GELU, biases
  std::int64_t layers = 4;
  std::int64_t embed = 256;
  std::int64_t heads = 4;
  std::int64_t kv_heads = 0;
  std::int64_t mlp = 0;
  std::int64_t vocab = 0;
  std::int64_t seq = 256;  // longest sequence, in tokens
  bool tied = false;       // the output projection is the embedding table
  double rope_theta = 10000.0;
  double norm_eps = 1e-5;
  double init_std = 0.02;
  // Feed-forward layers that are mixtures of experts (Mixtral). See mixture.h.
  std::int64_t experts = 0;  // 0: one feed-forward layer for all tokens
  std::int64_t experts_per_token = 2;
  double capacity_factor = 1.25;  // slots over what even loads would take; 0: a slot for every token
  double router_balance = 0.01;   // weights of the routers' losses
  double router_z = 0.001;
};

// The keys of [model] that it reads, and the config they say.
const std::vector<Setting>& gpt_settings();
GptConfig gpt_config(const Settings& settings);

// Fills in what is left open and checks the extents. Throws kConfig.
GptConfig complete_gpt(GptConfig config);

struct GptOutputs {
  ValueId logits;  // [batch, seq, vocab]
  std::optional<ValueId> router_loss =
      {};  // f32 [batch, seq], "router_loss": the mean over layers, where there are experts
};
// tokens: i32 [batch, seq]. Parameters carry Hugging Face names and layouts; a "*" in a name stands for the number of an
// element of the first axis, see ExportedTensor.
GptOutputs build_gpt(Graph& graph, const GptConfig& config, ValueId tokens);

// The config.json that Hugging Face transformers needs beside the exported weights.
std::string hugging_face_config(const GptConfig& config, int end_of_text);

}  // namespace takt
