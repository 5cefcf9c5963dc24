// Weights that other software wrote or reads: what it calls and how it shapes them, and whether they are of this model.
#pragma once

#include <filesystem>
#include <vector>

#include "core/graph/graph.h"
#include "core/models/model.h"
#include "core/state/checkpoint.h"

namespace takt {

// Names and shapes of the graph's parameters as other software knows them.
std::vector<ExportedTensor> exported_tensors(const Graph& graph);

// Compares the config.json beside the weights that model.init names with the model, which must be complete.
// False if there is none: then nothing says what the shapes of the weights do not show. Throws kData for a
// model that is not done here, kConfig where the [model] table is another one's.
bool require_same_model(const std::filesystem::path& file_or_directory, const ModelConfig& model);

}  // namespace takt
