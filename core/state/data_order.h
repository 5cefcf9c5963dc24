// DataOrder: which sample comes next, as a function of how many were consumed.
#pragma once

#include <cstdint>

namespace takt {

// Every epoch is another seeded permutation of all samples. There is no state: a run goes on where it
// stopped, and on any number of ranks, from the one number of samples consumed.
class DataOrder {
 public:
  // Throws kConfig if there are no samples.
  DataOrder(std::uint64_t seed, std::int64_t num_samples);

  // The sample that is drawn after `consumed` others.
  std::int64_t at(std::int64_t consumed) const;
  std::int64_t epoch(std::int64_t consumed) const { return consumed / num_samples_; }

 private:
  std::uint64_t seed_;
  std::int64_t num_samples_;
};

}  // namespace takt
