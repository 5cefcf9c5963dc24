// The order of samples: a permutation an epoch, evaluated at one point, in constant memory.
#include "core/state/data_order.h"

#include "core/base/error.h"
#include "core/base/rng.h"

namespace takt {

DataOrder::DataOrder(std::uint64_t seed, std::int64_t num_samples) : seed_(seed), num_samples_(num_samples) {
  TAKT_REQUIRE(num_samples > 0, "data order: there are ", num_samples, " samples, at least one is needed");
}

std::int64_t DataOrder::at(std::int64_t consumed) const {
  TAKT_ASSERT(consumed >= 0, "data order: ", consumed, " samples consumed");
  const RandomStream stream(seed_, "data order", static_cast<std::uint32_t>(epoch(consumed)));
  return static_cast<std::int64_t>(permuted(static_cast<std::uint64_t>(consumed % num_samples_),
                                            static_cast<std::uint64_t>(num_samples_), stream));
}

}  // namespace takt
