// Saving a checkpoint, so that at no moment, whatever fails, a step directory is visible that does not load:
//
//   root makes .tmp-<step>-<random> -> every rank writes its shards there, syncs them and reads them back
//   -> root writes the manifest, syncs the directory, renames it to step-NNNNNN, syncs the parent
//   -> root writes LATEST -> root deletes old checkpoints.
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
#include <set>
#include <system_error>
#include <utility>

#include "collectives/bootstrap.h"
#include "collectives/share.h"
#include "core/base/error.h"
#include "core/base/units.h"
#include "core/state/checkpoint.h"
#include "core/state/checkpoint_files.h"
#include "core/state/files.h"
#include "core/state/manifest.h"
#include "core/state/region.h"
#include "core/state/safetensors.h"

namespace takt {
namespace {

using std::filesystem::path;
constexpr int kRoot = 0;
constexpr int kMinKept = 2;

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
  if (::statvfs(root.c_str(), &status) != 0) fail_io(root, "examine", errno);
  const std::uint64_t free_bytes = std::uint64_t{status.f_bavail} * status.f_frsize;
  if (free_bytes < needed_bytes)
    fail(Fault::kIo, root.string(), ": a checkpoint needs ", format_bytes(needed_bytes), ", only ",
         format_bytes(free_bytes),
         " are free\n  free some space, or keep fewer checkpoints (checkpoint.keep)");
}

void make_staging_directory(const path& root, const path& staging, std::uint64_t needed_bytes) {
  std::error_code error;
  std::filesystem::create_directories(root, error);
  if (error) fail_io(root, "create", error.value());
  require_space(root, needed_bytes);
  if (::mkdir(staging.c_str(), 0700) != 0) fail_io(staging, "create", errno);
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
  SafetensorsWriter writer(staging / file_name, specs, {});
  for (const TensorShard* shard : shards) {
    const std::vector<std::int64_t> zeros(shard->extent.size(), 0);
    const char* data = static_cast<const char*>(shard->data);
    const auto element_bytes = static_cast<std::int64_t>(num_bytes(shard->dtype));
    for_each_run({shard->extent, shard->buffer_shape, zeros, shard->extent, zeros},
                 [&](std::int64_t from, std::int64_t, std::int64_t num_elements) {
                   writer.append(data + from * element_bytes,
                                 static_cast<std::size_t>(num_elements * element_bytes));
                 });
  }
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
  sync_directory(staging);
  return part;
}

void rename_or_fail(const path& from, const path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail_io(from, "rename to " + to.string(), errno);
}

// Makes `staging` visible as `final_path`. A checkpoint of that name is replaced in one system call; it then
// lies in `staging`, and is deleted there. Where the file system cannot swap two names it is moved away
// first: a crash in between leaves the older checkpoints.
void make_visible(const path& staging, const path& final_path) {
  std::error_code error;
  if (!std::filesystem::exists(final_path, error)) return rename_or_fail(staging, final_path);
  if (::renameat2(AT_FDCWD, staging.c_str(), AT_FDCWD, final_path.c_str(), RENAME_EXCHANGE) != 0) {
    if (errno != EINVAL && errno != ENOSYS) fail_io(staging, "swap with " + final_path.string(), errno);
    const path replaced = staging.string() + "-replaced";
    rename_or_fail(final_path, replaced);
    if (::rename(staging.c_str(), final_path.c_str()) != 0) {
      const int refused = errno;
      std::filesystem::rename(replaced, final_path, error);
      fail_io(staging, "rename to " + final_path.string(), refused);
    }
  }
}

// Under a name that no loader looks at first, so that a crash on the way leaves no half checkpoint visible.
// What cannot be deleted costs space, not the run: the next save tries again.
void remove_old(const path& root, std::int64_t step, int keep) {
  std::vector<path> old = list_checkpoints(root);
  std::erase_if(old, [&](const path& directory) { return *step_of(directory) > step; });
  const auto num_kept = static_cast<std::size_t>(std::max(keep, kMinKept));
  for (std::size_t i = 0; i + num_kept < old.size(); ++i) {
    const path hidden = root / concat(kStagingPrefix, old[i].filename().string(), "-", random_suffix());
    std::error_code ignored;
    std::filesystem::rename(old[i], hidden, ignored);
  }
  std::vector<path> hidden;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(root, error))
    if (entry.path().filename().string().starts_with(kStagingPrefix)) hidden.push_back(entry.path());
  for (const path& directory : hidden) std::filesystem::remove_all(directory, error);
}

// Root only: every rank's files are complete and verified.
void commit(const path& root, const path& staging, std::span<const std::string> parts,
            const TrainingCursor& cursor, int keep) {
  Manifest manifest;
  for (const std::string& part : parts)
    merge(manifest, parse_manifest(part, "a rank's part of the manifest"));
  manifest.cursor = cursor;
  check_manifest(manifest, Fault::kBug, "checkpoint of step " + std::to_string(cursor.step));
  NewFile file(staging / kManifestName);
  const std::string text = to_text(manifest);
  file.append(text.data(), text.size());
  file.commit();
  sync_directory(staging);
  const std::string name = checkpoint_name(cursor.step);
  make_visible(staging, root / name);
  sync_directory(root);
  write_file_atomically(root / kLatestName, name + "\n");
  remove_old(root, cursor.step, keep);
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
  try {
    agree(world, [&] {
      TAKT_ASSERT(cursor.step >= 0 && std::isfinite(cursor.best_valid_loss),
                  "a cursor that cannot be stored");
      if (is_root) make_staging_directory(root, staging, needed_bytes);
    });
    const Manifest part =
        agree(world, [&] { return write_shards(staging, shards, world.rank(), world.size()); });
    const std::vector<std::string> parts = gather_texts(world, to_text(part), kRoot);
    agree(world, [&] {
      if (is_root) commit(root, staging, parts, cursor, keep);
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
