// The printed form of placements.
#include "core/mesh/placement.h"

namespace takt {

std::string to_string(const AxisPlacement& placement) {
  if (placement.is_sharded()) return "S(" + placement.axis.str() + ")";
  if (placement.is_partial()) return "P(" + std::string(name_of(placement.reduce)) + ")";
  return "R";
}

std::string to_string(const Placement& placement) {
  std::string text;
  for (const AxisPlacement& axis : placement) text += (text.empty() ? "" : ",") + to_string(axis);
  return text;
}

}  // namespace takt
