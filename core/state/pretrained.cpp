// A parameter is declared under the name by which other software knows it.
#include "core/state/pretrained.h"

namespace takt {

std::vector<ExportedTensor> exported_tensors(const Graph& graph) {
  std::vector<ExportedTensor> tensors;
  for (const Value& value : graph.values()) {
    if (value.role != Role::kParameter) continue;
    ExportedTensor tensor{value.name, value.parameter.value().export_shape};
    if (tensor.shape.empty())
      for (const Dim& dim : value.global_dims) tensor.shape.push_back(dim.extent);
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

}  // namespace takt
