// The checkpoint directory as found on disk. A step directory counts only with its manifest; LATEST is for
// people and is never believed.
#include "core/state/checkpoint_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "core/base/error.h"
#include "core/state/files.h"
#include "core/state/safetensors.h"

namespace takt {
namespace {

constexpr std::string_view kStepPrefix = "step-";
constexpr std::int64_t kWindowBytes = std::int64_t{16} << 20;
constexpr std::uint64_t kMaxManifestBytes = std::uint64_t{1} << 30;

std::filesystem::path without_trailing_slash(const std::filesystem::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

}  // namespace

std::string checkpoint_name(std::int64_t step) {
  return fmt::format("{}{:06}", kStepPrefix, step);
}

std::optional<std::int64_t> step_of(const std::filesystem::path& directory) {
  const std::string name = without_trailing_slash(directory).filename().string();
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  std::int64_t step = -1;
  std::from_chars(name.data() + kStepPrefix.size(), name.data() + name.size(), step);
  if (step < 0 || checkpoint_name(step) != name) return std::nullopt;
  return step;
}

std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& root) {
  std::vector<std::pair<std::int64_t, std::filesystem::path>> found;
  for (const std::filesystem::path& entry : list_directory(root)) {
    const std::optional<std::int64_t> step = step_of(entry);
    if (step && type_of(entry / kManifestName) == std::filesystem::file_type::regular)
      found.emplace_back(*step, entry);
  }
  std::sort(found.begin(), found.end());
  std::vector<std::filesystem::path> directories;
  for (auto& [step, path] : found) directories.push_back(std::move(path));
  return directories;
}

Region region_of(const TensorShard& shard) {
  return {shard.offset, shard.extent};
}

void check_shard(const TensorShard& shard) {
  const std::size_t rank = shard.global_shape.size();
  TAKT_ASSERT(is_tensor_name(shard.name), "'", shard.name, "' cannot be the name of a tensor");
  TAKT_ASSERT(shard.buffer_shape.size() == rank && shard.offset.size() == rank && shard.extent.size() == rank,
              "shard of '", shard.name, "': shapes, offset and extent differ in their number of dimensions");
  if (volume(shard.extent) == 0) return;  // all padding
  TAKT_ASSERT(lies_within(region_of(shard), shard.global_shape), "shard of '", shard.name,
              "' leaves the global tensor");
  for (std::size_t d = 0; d < rank; ++d)
    TAKT_ASSERT(shard.extent[d] <= shard.buffer_shape[d], "shard of '", shard.name,
                "' is larger than its buffer");
  TAKT_ASSERT(shard.memory, "shard of '", shard.name, "' has no buffer");
}

void read_region(const TensorShard& shard, const std::function<void(std::span<const std::byte>)>& take) {
  const auto element_bytes = static_cast<std::int64_t>(num_bytes(shard.dtype));
  const std::int64_t num_local = volume(shard.buffer_shape);
  const std::vector<std::int64_t> zeros(shard.extent.size(), 0);
  // The elements at hand: all of them in host memory, else a window that moves on as they are read.
  std::vector<std::byte> copied;
  const std::byte* window = shard.memory.host;
  std::int64_t begin = 0, end = window != nullptr ? num_local : 0;
  for_each_run({shard.extent, shard.buffer_shape, zeros, shard.extent, zeros}, [&](std::int64_t from,
                                                                                   std::int64_t,
                                                                                   std::int64_t
                                                                                       num_elements) {
    for (const std::int64_t run_end = from + num_elements; from < run_end;) {
      if (from >= end) {
        begin = from;
        end = std::min(num_local, from + kWindowBytes / element_bytes);
        copied.resize(static_cast<std::size_t>((end - begin) * element_bytes));
        shard.memory.read(begin, copied);
        window = copied.data();
      }
      const std::int64_t num_ready = std::min(run_end, end) - from;
      take({window + (from - begin) * element_bytes, static_cast<std::size_t>(num_ready * element_bytes)});
      from += num_ready;
    }
  });
}

void change_buffer(const TensorShard& shard, const std::function<void(std::byte* buffer)>& change) {
  if (shard.memory.host != nullptr) return change(shard.memory.host);
  std::vector<std::byte> buffer(static_cast<std::size_t>(volume(shard.buffer_shape)) *
                                num_bytes(shard.dtype));
  if (shard.extent != shard.buffer_shape) shard.memory.read(0, buffer);  // padding is left alone
  change(buffer.data());
  shard.memory.write(0, buffer);
}

std::string advice_for(const std::filesystem::path& directory) {
  const std::optional<std::int64_t> step = step_of(directory);
  std::filesystem::path older;
  try {
    for (const auto& other : list_checkpoints(without_trailing_slash(directory).parent_path()))
      if (!step || *step_of(other) < *step) older = other;
  } catch (const Error&) {
    return "";  // the damage is what is reported
  }
  if (older.empty()) return "\n  no older checkpoint lies beside it; name another one with --resume PATH";
  return "\n  an older checkpoint lies beside it: --resume " + older.string();
}

Manifest read_manifest(const std::filesystem::path& directory) {
  const std::string source = (directory / kManifestName).string();
  try {
    Manifest manifest = parse_manifest(read_text_file(source, kMaxManifestBytes), source);
    check_manifest(manifest, Fault::kData, source);
    return manifest;
  } catch (const Error& error) {
    if (error.fault() != Fault::kData) throw;
    fail(Fault::kData, error.what(), advice_for(directory));
  }
}

void verify_files(const std::filesystem::path& directory, const Manifest& manifest, int part, int num_parts) {
  for (auto i = static_cast<std::size_t>(part); i < manifest.files.size();
       i += static_cast<std::size_t>(num_parts)) {
    const ManifestFile& file = manifest.files[i];
    const std::filesystem::path path = directory / file.name;
    if (type_of(path) == std::filesystem::file_type::not_found)
      fail(Fault::kData, path.string(), ": is missing, the manifest lists it", advice_for(directory));
    const FileDigest found = digest_file(path);
    if (found.num_bytes != file.digest.num_bytes)
      fail(Fault::kData, path.string(), ": has ", found.num_bytes, " bytes, the manifest says ",
           file.digest.num_bytes, advice_for(directory));
    if (found.xxh3 != file.digest.xxh3)
      fail(Fault::kData, path.string(), ": is damaged, its hash is ", found.xxh3, ", the manifest says ",
           file.digest.xxh3, advice_for(directory));
  }
}

}  // namespace takt
