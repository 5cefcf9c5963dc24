// Padding: the elements of a rank's piece that do not exist globally. They are cleared behind whoever writes the piece, since
// sums over a padded axis count on zeros.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/graph/graph.h"
#include "core/mesh/mesh.h"

namespace takt {

// A piece of storage seen as [rows, columns] in bytes: columns from `first` on are padding.
struct Padding {
  std::byte* data = nullptr;
  std::size_t rows = 0, columns = 0, first = 0;
};

// Of a value that lies at `data`, on the rank with these coordinates; one for each axis that is not full there.
std::vector<Padding> padding_of(const Value& value, std::byte* data, const Mesh& mesh,
                                std::span<const int> coordinates);

}  // namespace takt
