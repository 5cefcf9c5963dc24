// gpt: decoder-only transformers of the GPT-2 and Llama families.
#pragma once

#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "core/models/model.h"

namespace takt {

// Fills in what the job file leaves open and checks the extents. Throws kConfig.
ModelConfig complete_gpt(ModelConfig config);

// tokens: i32 [batch, seq]. Returns logits [batch, seq, vocab]. Parameters carry Hugging Face names and
// layouts.
ValueId build_gpt(Graph& graph, const ModelConfig& config, ValueId tokens);

// The config.json that Hugging Face transformers needs beside the exported weights.
std::string hugging_face_config(const ModelConfig& config, int end_of_text);

}  // namespace takt
