// Saving a checkpoint, so that at no moment, whatever fails, a step directory is visible that does not load:
//
//   root makes .tmp-<step>-<random> -> every rank writes its shards there, syncs them and reads them back
//   -> root writes the manifest, syncs the directory, renames it to step-NNNNNN, syncs the parent
//   -> root writes LATEST -> root deletes old checkpoints, and what crashed saves left.
//
// Every arrow is an agree(): where one rank fails, all throw and nothing visible has changed.
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <fmt/format.h>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "collectives/bootstrap.h"
#include "collectives/share.h"
#include "core/base/error.h"
#include "core/base/units.h"
#include "core/state/checkpoint.h"
#include "core/state/checkpoint_files.h"
#include "core/state/durable_file.h"
#include "core/state/manifest.h"
#include "core/state/region.h"
#include "core/state/safetensors.h"
#include "core/state/save_lock.h"

namespace takt {
namespace {

using std::filesystem::path;
constexpr int kRoot = 0;
constexpr int kMinKept = 2;
// A rank that does not see the staging directory must fail, and not make one of its own.
constexpr DurableFileOptions kPrivate = {.mode = 0600, .make_folder = false};

bool is_written(const TensorShard& shard) {
  return shard.writes && volume(shard.extent) > 0;
}

std::uint64_t num_written_bytes(std::span<const TensorShard> shards) {
  std::uint64_t sum = 0;
  for (const TensorShard& shard : shards)
    if (is_written(shard)) sum += static_cast<std::uint64_t>(volume(shard.extent)) * num_bytes(shard.dtype);
  return sum;
}

// Drawn by the root, so that the ranks of this save share it and no other save ever did.
std::string shared_staging_name(std::int64_t step, Communicator& world) {
  const std::string suffix = share_text(world, world.rank() == kRoot ? random_suffix() : "", kRoot);
  return fmt::format("{}{:06}-{}", kStagingPrefix, step, suffix);
}

void require_space(const path& root, std::uint64_t needed_bytes) {
  struct statvfs status = {};
  if (retried([&] { return ::statvfs(root.c_str(), &status); }) != 0) fail_io(root, "examine", errno);
  const std::uint64_t free_bytes = std::uint64_t{status.f_bavail} * status.f_frsize;
  if (free_bytes < needed_bytes)
    fail(Fault::kIo, root.string(), ": a checkpoint needs ", format_bytes(needed_bytes), ", only ",
         format_bytes(free_bytes),
         " are free\n  free some space, or keep fewer checkpoints (checkpoint.keep)");
}

void make_staging_directory(const path& root, const path& staging, std::uint64_t needed_bytes) {
  require_space(root, needed_bytes);
  if (retried([&] { return ::mkdir(staging.c_str(), 0700); }) != 0) fail_io(staging, "create", errno);
}

// One file of this rank, and what the manifest says of it.
void write_shard_file(const path& staging, const std::string& file_name,
                      std::span<const TensorShard* const> shards, Manifest& part) {
  std::vector<TensorSpec> specs;
  for (const TensorShard* shard : shards) {
    specs.push_back({shard->name, stored(shard->dtype), shard->extent});
    part.tensors.push_back({shard->name,
                            shard->is_optimizer,
                            shard->dtype,
                            shard->global_shape,
                            {{part.files.size(), region_of(*shard)}}});
  }
  SafetensorsWriter writer(staging / file_name, specs, {}, kPrivate);
  for (const TensorShard* shard : shards)
    read_region(*shard, [&](std::span<const std::byte> piece) { writer.append(piece.data(), piece.size()); });
  part.files.push_back({file_name, writer.commit()});
}

Manifest write_shards(const path& staging, std::span<const TensorShard> shards, int rank, int num_ranks) {
  Manifest part;
  std::set<std::string_view> names;
  for (const bool is_optimizer : {false, true}) {
    std::vector<const TensorShard*> chosen;
    for (const TensorShard& shard : shards) {
      if (shard.is_optimizer != is_optimizer) continue;
      check_shard(shard);
      if (!is_written(shard)) continue;
      TAKT_ASSERT(names.insert(shard.name).second, "rank ", rank, " writes two regions of '", shard.name,
                  "'");
      chosen.push_back(&shard);
    }
    const char* kind = is_optimizer ? "optimizer" : "model";
    const std::string name = fmt::format("{}-{:05}-of-{:05}.safetensors", kind, rank + 1, num_ranks);
    if (!chosen.empty()) write_shard_file(staging, name, chosen, part);
  }
  return part;
}

// Makes `staging` visible as `final_path`. A checkpoint of that name is replaced in one system call; it then
// lies in `staging`, and is deleted there. Where the file system cannot swap two names it is moved away
// first: a crash in between leaves the older checkpoints.
void make_visible(const path& staging, const path& final_path) {
  if (type_of(final_path) == std::filesystem::file_type::not_found) return rename_file(staging, final_path);
  const auto swap = [&] {
    return ::renameat2(AT_FDCWD, staging.c_str(), AT_FDCWD, final_path.c_str(), RENAME_EXCHANGE);
  };
  if (retried(swap) == 0) return;
  if (errno != EINVAL && errno != ENOSYS) fail_io(staging, "swap with " + final_path.string(), errno);
  const path replaced = staging.string() + "-replaced";
  rename_file(final_path, replaced);
  try {
    rename_file(staging, final_path);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::rename(replaced, final_path, ignored);
    throw;
  }
}

// What this save put under staging names: `staging`, if an older checkpoint of this step went there, and the
// old ones. They get such a name first, which no loader looks at, so that a crash on the way leaves no half
// checkpoint visible. What cannot be deleted costs space, not the run.
std::vector<path> hide_old(const path& root, const path& staging, std::int64_t step, int keep) {
  std::vector<path> hidden = {staging, staging.string() + "-replaced"};
  std::vector<path> old = list_checkpoints(root);
  std::erase_if(old, [&](const path& directory) { return *step_of(directory) > step; });
  const auto num_kept = static_cast<std::size_t>(std::max(keep, kMinKept));
  for (std::size_t i = 0; i + num_kept < old.size(); ++i) {
    hidden.push_back(root / concat(kStagingPrefix, old[i].filename().string(), "-", random_suffix()));
    std::error_code ignored;
    std::filesystem::rename(old[i], hidden.back(), ignored);
  }
  return hidden;
}

// Other staging names belong to somebody who is saving now, or to a save that crashed: only who is alone
// knows that it is the latter.
void remove_old(const path& root, const path& staging, std::int64_t step, int keep, SaveLock& lock) {
  std::vector<path> hidden = hide_old(root, staging, step, keep);
  if (lock.become_exclusive())
    for (const path& entry : list_directory(root))
      if (entry.filename().string().starts_with(kStagingPrefix)) hidden.push_back(entry);
  std::error_code ignored;
  for (const path& directory : hidden) std::filesystem::remove_all(directory, ignored);
}

// Root only: every rank's files are complete and verified.
void commit(const path& root, const path& staging, std::span<const std::string> parts,
            const TrainingCursor& cursor, int keep, SaveLock& lock) {
  std::vector<Manifest> parsed;
  for (const std::string& part : parts)
    parsed.push_back(parse_manifest(part, "a rank's part of the manifest"));
  Manifest manifest = merged(parsed);
  manifest.cursor = cursor;
  check_manifest(manifest, Fault::kBug, "checkpoint of step " + std::to_string(cursor.step));
  DurableFile file(staging / kManifestName, kPrivate);
  file.write(to_text(manifest));
  file.commit();
  const std::string name = checkpoint_name(cursor.step);
  make_visible(staging, root / name);
  sync_directory(root);
  write_file_atomically(root / kLatestName, name + "\n");
  remove_old(root, staging, cursor.step, keep, lock);
}

}  // namespace

SaveReport save_checkpoint(const path& root, std::span<const TensorShard> shards,
                           const TrainingCursor& cursor, int keep, Communicator& world) {
  const auto start = std::chrono::steady_clock::now();
  const path staging = root / shared_staging_name(cursor.step, world);
  auto total_bytes = static_cast<double>(num_written_bytes(shards));  // exact below 2^53
  world.all_reduce(&total_bytes, 1, DType::kF64, ReduceOp::kSum, {.value = "checkpoint bytes"});
  const auto needed_bytes = static_cast<std::uint64_t>(total_bytes);
  const bool is_root = world.rank() == kRoot;
  std::optional<SaveLock> lock;  // of the root
  try {
    agree(world, [&] {
      TAKT_ASSERT(cursor.step >= 0 && std::isfinite(cursor.best_valid_loss),
                  "a cursor that cannot be stored");
      if (!is_root) return;
      make_directories(root);
      lock.emplace(root);
      make_staging_directory(root, staging, needed_bytes);
    });
    const Manifest part =
        agree(world, [&] { return write_shards(staging, shards, world.rank(), world.size()); });
    const std::vector<std::string> parts = gather_texts(world, to_text(part), kRoot);
    agree(world, [&] {
      if (is_root) commit(root, staging, parts, cursor, keep, *lock);
    });
  } catch (...) {
    std::error_code ignored;
    if (is_root) std::filesystem::remove_all(staging, ignored);
    throw;
  }
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  return {root / checkpoint_name(cursor.step), needed_bytes, time.count()};
}

}  // namespace takt
