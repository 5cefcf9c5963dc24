// A small model as the ranks of any mesh hold it, for tests of checkpoints.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/state/checkpoint.h"
#include "core/state/region.h"

namespace takt::testing_state {

using Shape = std::vector<std::int64_t>;
inline constexpr float kPadding = -1;  // what buffers hold before a load

struct GlobalTensor {
  std::string name;
  bool is_optimizer;
  Shape shape;
};

// Five rows over four ranks leave a padded and an empty shard.
inline const std::vector<GlobalTensor> kModel = {
    {"wte.weight", false, {5, 7}}, {"h.0.attn.qkv", false, {6, 2, 3}},  {"h.0.bias", false, {7}},
    {"scale", false, {}},          {"adam_m.wte.weight", true, {5, 7}}, {"adam_m.h.0.bias", true, {7}}};

// Ranks in a grid: the first dimension is split over `rows` of them, the second over `columns`.
struct Split {
  int rows;
  int columns;
  int num_ranks() const { return rows * columns; }
};

inline float value_of(const std::string& name, std::int64_t element) {
  return static_cast<float>(name.size() * 1000 + static_cast<std::size_t>(element));
}

// The shards of one rank and the buffers they point into.
struct RankState {
  std::vector<TensorShard> shards;
  std::vector<std::vector<float>> buffers;
};

inline TensorShard shard_of(const GlobalTensor& tensor, Split split, int rank) {
  TensorShard shard;
  shard.name = tensor.name;
  shard.is_optimizer = tensor.is_optimizer;
  shard.global_shape = shard.buffer_shape = shard.extent = tensor.shape;
  shard.offset.assign(tensor.shape.size(), 0);
  const std::array<int, 2> parts = {split.rows, split.columns};
  const std::array<int, 2> position = {rank / split.columns, rank % split.columns};
  for (std::size_t axis = 0; axis < 2; ++axis) {
    if (axis >= tensor.shape.size()) {
      shard.writes = shard.writes && position[axis] == 0;  // replicated: one of them saves it
      continue;
    }
    const std::int64_t chunk = (tensor.shape[axis] + parts[axis] - 1) / parts[axis];
    shard.buffer_shape[axis] = chunk;
    shard.offset[axis] = chunk * position[axis];
    shard.extent[axis] = std::clamp<std::int64_t>(tensor.shape[axis] - shard.offset[axis], 0, chunk);
  }
  return shard;
}

inline RankState state_of(Split split, int rank, float padding) {
  RankState state;
  for (const GlobalTensor& tensor : kModel) {
    state.shards.push_back(shard_of(tensor, split, rank));
    state.buffers.emplace_back(static_cast<std::size_t>(volume(state.shards.back().buffer_shape)), padding);
    state.shards.back().memory = host_memory(state.buffers.back().data(), DType::kF32);
  }
  return state;
}

// What the buffer must hold: the region's values, and `padding` around them.
inline std::vector<float> expected_buffer(const TensorShard& shard, float padding) {
  std::vector<float> buffer(static_cast<std::size_t>(volume(shard.buffer_shape)), padding);
  const Shape zeros(shard.extent.size(), 0);
  for_each_run({shard.extent, shard.global_shape, shard.offset, shard.buffer_shape, zeros},
               [&](std::int64_t from, std::int64_t to, std::int64_t num_elements) {
                 for (std::int64_t i = 0; i < num_elements; ++i)
                   buffer[static_cast<std::size_t>(to + i)] = value_of(shard.name, from + i);
               });
  return buffer;
}

inline void fill_with_values(RankState& state) {
  for (std::size_t i = 0; i < state.shards.size(); ++i) {
    state.buffers[i] = expected_buffer(state.shards[i], 0);
    state.shards[i].memory = host_memory(state.buffers[i].data(), DType::kF32);
  }
}

}  // namespace takt::testing_state
