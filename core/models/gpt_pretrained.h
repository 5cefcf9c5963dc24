// Whether a config.json of Hugging Face describes the GPT of the job.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "core/models/gpt.h"

namespace takt {

// `model` must be complete. Throws kData, naming the key, where `config` asks for something that is not done
// here, or holds a key that is not known here and so may change what the model computes; kConfig, with all of
// them, where the [model] table has other values. `source` names the file in messages.
void require_same_gpt(const GptConfig& model, const nlohmann::json& config, const std::string& source);

}  // namespace takt
