// Models: what the job file says of one, and what every model offers.
#pragma once

#include <cstdint>
#include <string>

namespace takt {

// The [model] table. Extents of 0 are derived: kv_heads = heads, mlp from the family, vocab from the
// tokenizer.
struct ModelConfig {
  std::string kind = "gpt";
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
  std::string init;  // a folder or safetensors file to start from; empty: random
};

}  // namespace takt
