// weights_hash: runs of neighbouring elements are hashed with consecutive global indices.
//
// An element's term is mix(mix(name + index) + bits). `mix` is the finalizer of SplitMix64 (Steele, Lea and Flood 2014),
// in which every bit of the input reaches every bit of the output; names are hashed by FNV-1a.
#include "core/state/weights_hash.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "core/base/error.h"
#include "core/state/region.h"

namespace takt {
namespace {

std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

std::uint64_t hash_of_name(std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return mix(hash);
}

// The elements that a rank holds, as one box that is copied to where it lies in the whole tensor.
BoxCopy to_whole(const TensorShard& shard) {
  return {.extent = shard.extent,
          .from_shape = shard.buffer_shape,
          .from_offset = std::vector<std::int64_t>(shard.extent.size(), 0),
          .to_shape = shard.global_shape,
          .to_offset = shard.offset};
}

std::uint64_t hash_of_shard(const TensorShard& shard) {
  TAKT_ASSERT(shard.dtype == DType::kF32, "weights_hash: '", shard.name, "' is ", shard.dtype,
              ", wanted f32");
  if (volume(shard.extent) == 0) return 0;
  const std::uint64_t name = hash_of_name(shard.name);
  std::uint64_t sum = 0;
  std::vector<float> run;
  for_each_run(to_whole(shard), [&](std::int64_t from, std::int64_t to, std::int64_t num_elements) {
    run.resize(static_cast<std::size_t>(num_elements));
    shard.memory.read(from, std::as_writable_bytes(std::span(run)));
    for (const float element : run)
      sum += mix(mix(name + static_cast<std::uint64_t>(to++)) + std::bit_cast<std::uint32_t>(element));
  });
  return sum;
}

// The sum over ranks modulo 2^64, in digits of 16 bits: collectives add numbers of 32.
std::uint64_t sum_of_ranks(std::uint64_t mine, Communicator& world) {
  constexpr int kDigits = 4, kBits = 16;
  TAKT_ASSERT(world.size() < 1 << 15, "weights_hash: ", world.size(), " ranks, wanted fewer than 32768");
  std::int32_t digits[kDigits];
  for (int d = 0; d < kDigits; ++d) digits[d] = static_cast<std::int32_t>(mine >> (d * kBits) & 0xFFFF);
  world.all_reduce(digits, kDigits, DType::kI32, ReduceOp::kSum, {"hash of the weights"});
  std::uint64_t sum = 0;
  for (int d = 0; d < kDigits; ++d) sum += static_cast<std::uint64_t>(digits[d]) << (d * kBits);
  return sum;
}

}  // namespace

std::uint64_t weights_hash(std::span<const TensorShard> shards, Communicator& world) {
  std::uint64_t sum = 0;
  for (const TensorShard& shard : shards) {
    if (shard.is_optimizer || !shard.writes) continue;
    world.note_progress({.doing = "hashing the weights"});
    sum += hash_of_shard(shard);
  }
  return sum_of_ranks(sum, world);
}

std::string hex_text(std::uint64_t hash) {
  std::string text(16, '0');
  for (std::size_t i = text.size(); i-- > 0; hash >>= 4) text[i] = "0123456789abcdef"[hash & 15];
  return text;
}

}  // namespace takt
