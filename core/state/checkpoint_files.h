// What saving and loading a checkpoint share: names, checks of shards, and advice.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/state/checkpoint.h"
#include "core/state/manifest.h"
#include "core/state/region.h"

namespace takt {

// Of directories that are not checkpoints, yet or any more.
inline constexpr std::string_view kStagingPrefix = ".tmp-";
inline constexpr const char* kLatestName = "LATEST";

// The step of such a name; nullopt for other names.
std::optional<std::int64_t> step_of(const std::filesystem::path& directory);

Region region_of(const TensorShard& shard);
// Throws kBug where offsets, extents and shapes contradict each other.
void check_shard(const TensorShard& shard);
// Hands the elements of the shard's region to `take`, in row-major order of the region, a piece at a time.
void read_region(const TensorShard& shard, const std::function<void(std::span<const std::byte>)>& take);
// Lets `change` write into the shard's local buffer. Memory that the host cannot reach goes through a copy.
void change_buffer(const TensorShard& shard, const std::function<void(std::byte* buffer)>& change);

// Reads and checks manifest.json. Throws kData, with advice.
Manifest read_manifest(const std::filesystem::path& directory);
// Throws kData unless every file has the size and hash of the manifest. Of `num_parts` callers each checks its part.
void verify_files(const std::filesystem::path& directory, const Manifest& manifest, int part, int num_parts);

// Indented lines that say what to do about a damaged checkpoint: which older one there is.
std::string advice_for(const std::filesystem::path& directory);

}  // namespace takt
