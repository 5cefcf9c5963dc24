// The list of models: a new model is its own file and one line here.
#include "core/models/registry.h"

#include <array>

#include "core/models/gpt.h"
#include "core/models/gpt_pretrained.h"

namespace takt {

std::span<const ModelDef> model_registry() {
  static const std::array<ModelDef, 1> models = {{
      {"gpt", {"llama", "gpt2"}, complete_gpt, build_gpt, hugging_face_config, require_same_gpt},
  }};
  return models;
}

const ModelDef& find_model(const std::string& kind) {
  std::string known;
  for (const ModelDef& model : model_registry()) {
    if (model.name == kind) return model;
    known += (known.empty() ? "" : ", ") + model.name;
  }
  fail(Fault::kConfig, "model: kind is '", kind, "'; known are ", known);
}

}  // namespace takt
