// Philox4x32-10 and the streams and permutations made of it.
#include "core/base/rng.h"

#include <bit>
#include <cmath>
#include <numbers>

#include "core/base/error.h"

namespace takt {
namespace {

// FNV-1a, 64 bit: the name of a tensor as a number that is the same on every machine.
std::uint64_t hash_name(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325ull;
  for (const unsigned char c : name) hash = (hash ^ c) * 0x100000001b3ull;
  return hash;
}

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = 0xD2511F53ull * counter[0];
    const std::uint64_t product1 = 0xCD9E8D57ull * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product0)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

RandomStream::RandomStream(std::uint64_t seed, std::string_view name, std::uint32_t step) : step_(step) {
  const std::uint64_t hash = hash_name(name);
  key_ = {static_cast<std::uint32_t>(seed) ^ static_cast<std::uint32_t>(hash),
          static_cast<std::uint32_t>(seed >> 32)};
  name_high_ = static_cast<std::uint32_t>(hash >> 32);
}

std::uint64_t RandomStream::bits(std::uint64_t element) const {
  const auto out = philox4x32(
      {static_cast<std::uint32_t>(element), static_cast<std::uint32_t>(element >> 32), name_high_, step_},
      key_);
  return (static_cast<std::uint64_t>(out[1]) << 32) | out[0];
}

double RandomStream::uniform(std::uint64_t element) const {
  return static_cast<double>(bits(element) >> 11) * 0x1.0p-53;
}

float RandomStream::normal(std::uint64_t element) const {  // Box and Muller 1958
  const std::uint64_t b = bits(element);
  const double u = (static_cast<double>(b >> 32) + 1.0) * 0x1.0p-32;  // in (0, 1], so the logarithm is finite
  const double v = static_cast<double>(b & 0xffffffffu) * 0x1.0p-32;
  return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v));
}

std::uint64_t RandomStream::below(std::uint64_t element, std::uint64_t bound) const {
  return static_cast<std::uint64_t>(uniform(element) * static_cast<double>(bound));
}

std::uint64_t permuted(std::uint64_t index, std::uint64_t num_elements, const RandomStream& stream) {
  TAKT_ASSERT(index < num_elements, "permuted: index ", index, " of ", num_elements);
  if (num_elements == 1) return 0;
  const auto half_bits = (static_cast<unsigned>(std::bit_width(num_elements - 1)) + 1) / 2;
  const std::uint64_t mask = (1ull << half_bits) - 1;
  do {  // at most 4 times in the mean: the network's domain is less than 4 x num_elements
    std::uint64_t left = index >> half_bits, right = index & mask;
    for (std::uint64_t round = 0; round < 6; ++round) {
      const std::uint64_t mixed = stream.bits((round << 56) | right) & mask;
      const std::uint64_t next = left ^ mixed;
      left = right;
      right = next;
    }
    index = (left << half_bits) | right;
  } while (index >= num_elements);
  return index;
}

}  // namespace takt
