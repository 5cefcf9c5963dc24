// gpt: decoder-only transformers of the GPT-2 and Llama families.
#pragma once

#include <cstdint>
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
};

// The keys of [model] that it reads, and the config they say.
const std::vector<Setting>& gpt_settings();
GptConfig gpt_config(const Settings& settings);

// Fills in what is left open and checks the extents. Throws kConfig.
GptConfig complete_gpt(GptConfig config);

// tokens: i32 [batch, seq]. Returns logits [batch, seq, vocab]. Parameters carry Hugging Face names and
// layouts.
ValueId build_gpt(Graph& graph, const GptConfig& config, ValueId tokens);

// The config.json that Hugging Face transformers needs beside the exported weights.
std::string hugging_face_config(const GptConfig& config, int end_of_text);

}  // namespace takt
