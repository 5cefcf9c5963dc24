// All models, in alphabetical order.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "core/models/model.h"

namespace takt {

struct ModelDef {
  std::string name;                                                           // model.kind in the job file
  std::vector<std::string> families;                                          // model.family
  ModelConfig (*complete)(ModelConfig config);                                // fills in and checks; kConfig
  ValueId (*build)(Graph& graph, const ModelConfig& config, ValueId tokens);  // tokens [batch, seq] -> logits
  std::string (*hugging_face_config)(const ModelConfig& config, int end_of_text);
  // Whether a config.json of Hugging Face describes this model; see require_same_gpt.
  void (*require_same)(const ModelConfig& config, const nlohmann::json& file, const std::string& source);
};

std::span<const ModelDef> model_registry();
// Throws kConfig with the known names.
const ModelDef& find_model(const std::string& kind);

}  // namespace takt
