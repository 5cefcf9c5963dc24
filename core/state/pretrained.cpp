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

std::vector<ExportedTensor> tensors_in_files(const ExportedTensor& tensor) {
  const std::size_t star = tensor.name.find('*');
  if (star == std::string::npos) return {tensor};
  TAKT_ASSERT(!tensor.shape.empty(), "'", tensor.name, "' has no axis that its star could number");
  std::vector<ExportedTensor> tensors;
  for (std::int64_t i = 0; i < tensor.shape.front(); ++i)
    tensors.push_back({std::string(tensor.name).replace(star, 1, std::to_string(i)),
                       {tensor.shape.begin() + 1, tensor.shape.end()}});
  return tensors;
}

}  // namespace takt
