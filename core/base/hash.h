// Hashes of small things made of numbers.
#pragma once

#include <bit>
#include <cstdint>

namespace takt {

// The hash of what `hash` stands for, followed by `next`.
inline std::uint64_t combined_hash(std::uint64_t hash, std::uint64_t next) {
  return (std::rotl(hash, 23) ^ next) * 0x9E3779B97F4A7C15u;
}

// For hash tables by lists of numbers.
struct HashOfNumbers {
  std::uint64_t operator()(const auto& numbers) const {
    std::uint64_t hash = numbers.size();
    for (const int number : numbers) hash = combined_hash(hash, static_cast<std::uint64_t>(number));
    return hash;
  }
};

}  // namespace takt
