// The names of Numerics, and into how many pieces a sum is cut.
#include "core/passes/numerics.h"

#include <algorithm>

#include "core/base/error.h"

namespace takt {
namespace {

constexpr std::string_view kNames[] = {"fast", "invariant"};

}  // namespace

std::span<const std::string_view> numerics_names() {
  return kNames;
}

Numerics find_numerics(std::string_view name) {
  const auto found = std::find(std::begin(kNames), std::end(kNames), name);
  TAKT_REQUIRE(found != std::end(kNames), "train.numerics: '", name,
               "' is not known; fast and invariant are");
  return static_cast<Numerics>(found - std::begin(kNames));
}

std::int64_t pieces_of(std::int64_t extent) {
  return std::min(extent & -extent, kMostPieces);
}

}  // namespace takt
