// Counter-based random numbers: every number is a function of what it is for, never of who draws it.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace takt {

// Philox4x32-10. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key);

// A stream of numbers keyed by (seed, name, step) and addressed by global element index, so that neither
// initial weights nor data order depend on the mesh.
class RandomStream {
 public:
  RandomStream(std::uint64_t seed, std::string_view name, std::uint32_t step = 0);

  std::uint64_t bits(std::uint64_t element) const;
  double uniform(std::uint64_t element) const;                            // in [0, 1)
  float normal(std::uint64_t element) const;                              // mean 0, deviation 1
  std::uint64_t below(std::uint64_t element, std::uint64_t bound) const;  // in [0, bound), bound > 0

 private:
  std::array<std::uint32_t, 2> key_;
  std::uint32_t name_high_;
  std::uint32_t step_;
};

// Element `index` of a seeded permutation of [0, num_elements), in constant memory.
// Source: a balanced Feistel network with cycle walking (Black and Rogaway 2002).
std::uint64_t permuted(std::uint64_t index, std::uint64_t num_elements, const RandomStream& stream);

}  // namespace takt
