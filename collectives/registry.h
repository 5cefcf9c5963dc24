// The collective backends this build knows.
#pragma once

#include <span>
#include <string_view>

namespace takt {

struct CollectiveBackend {
  std::string_view name;
  bool compiled_in = false;
  std::string_view summary;
};

// In alphabetical order.
std::span<const CollectiveBackend> collective_backends();

}  // namespace takt
