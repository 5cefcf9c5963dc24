// weights_hash: one number for all weights of a model, whatever mesh holds them.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "collectives/communicator.h"
#include "core/state/checkpoint.h"

namespace takt {

// The sum, modulo 2^64, of a 64-bit mix of (tensor name, global row-major index, bits) over every element of every shard
// that is not optimizer state. A sum does not know how tensors are cut or in which order they come; the mix makes one
// flipped bit or two exchanged elements another sum, up to one chance in 2^64. It guards against accidents, not attacks.
// Part of the format of summaries: the definition never changes. f32 shards; padding is left out, and each region counts
// on the rank that writes it. Every rank of `world` calls it with its own shards and gets the same number.
std::uint64_t weights_hash(std::span<const TensorShard> shards, Communicator& world);

// "00f3a4…", as summaries and consoles show it.
std::string hex_text(std::uint64_t hash);

}  // namespace takt
