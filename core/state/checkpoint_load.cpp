// Loading a checkpoint into any mesh. Nothing is copied before the manifest fits what is wanted on every rank
// and every file has its hash, so a damaged checkpoint leaves the weights as they were.
#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <utility>

#include "collectives/bootstrap.h"
#include "core/base/error.h"
#include "core/state/checkpoint.h"
#include "core/state/checkpoint_files.h"
#include "core/state/manifest.h"
#include "core/state/region.h"
#include "core/state/safetensors.h"

namespace takt {
namespace {

using std::filesystem::path;

std::map<std::string_view, const ManifestTensor*> by_name(const Manifest& manifest) {
  std::map<std::string_view, const ManifestTensor*> tensors;
  for (const ManifestTensor& tensor : manifest.tensors) tensors.emplace(tensor.name, &tensor);
  return tensors;
}

// What the shard asks for, in the manifest; throws kData where it has something else.
const ManifestTensor& matching(const std::map<std::string_view, const ManifestTensor*>& tensors,
                               const TensorShard& shard, const path& directory) {
  const auto found = tensors.find(shard.name);
  if (found == tensors.end())
    fail(Fault::kData, directory.string(), ": holds no tensor '", shard.name,
         "'\n  it was written by another model or optimizer; --resume PATH names a checkpoint of this job");
  const ManifestTensor& tensor = *found->second;
  if (tensor.global_shape != shard.global_shape || tensor.dtype != shard.dtype)
    fail(Fault::kData, directory.string(), ": tensor '", shard.name, "' is ", tensor.dtype,
         shape_text(tensor.global_shape), ", this job wants ", shard.dtype, shape_text(shard.global_shape),
         "\n  it was written by another model; --resume PATH names a checkpoint of this job");
  return tensor;
}

// Which tensors of the manifest this rank asks for, 1 or 0 each.
std::vector<std::int32_t> wanted_tensors(const Manifest& manifest, std::span<const TensorShard> shards,
                                         const path& directory) {
  const auto tensors = by_name(manifest);
  std::vector<std::int32_t> wanted(manifest.tensors.size(), 0);
  for (const TensorShard& shard : shards) {
    check_shard(shard);
    const ManifestTensor& tensor = matching(tensors, shard, directory);
    wanted[static_cast<std::size_t>(&tensor - manifest.tensors.data())] = 1;
  }
  return wanted;
}

// A tensor that no rank wants means another model. Optimizer state may be left out as a whole, to evaluate a model.
void refuse_unwanted(const Manifest& manifest, std::span<const std::int32_t> wanted, const path& directory) {
  bool wants_optimizer = false;
  for (std::size_t i = 0; i < wanted.size(); ++i)
    wants_optimizer = wants_optimizer || (wanted[i] != 0 && manifest.tensors[i].is_optimizer);
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (wanted[i] == 0 && (wants_optimizer || !manifest.tensors[i].is_optimizer))
      fail(Fault::kData, directory.string(), ": holds tensor '", manifest.tensors[i].name,
           "', which this job does not have\n  it was written by another model or optimizer");
}

// The checkpoint's files, opened when first touched.
class ShardFiles {
 public:
  ShardFiles(const path& directory, const Manifest& manifest) : directory_(directory), manifest_(manifest) {}

  // The elements of one region of a tensor. Throws kData where the file holds something else under that name.
  const std::byte* data(const ManifestTensor& tensor, const ManifestRegion& part) {
    auto& file = files_[part.file];
    if (!file) file = std::make_unique<SafetensorsFile>(directory_ / manifest_.files[part.file].name);
    const StoredTensor* found = file->find(tensor.name);
    if (!found || found->shape != part.region.extent || found->dtype != stored(tensor.dtype))
      fail(Fault::kData, file->path().string(), ": has no tensor '", tensor.name,
           "' as the manifest describes it", advice_for(directory_));
    return file->data(*found);
  }

 private:
  path directory_;
  const Manifest& manifest_;
  std::map<std::size_t, std::unique_ptr<SafetensorsFile>> files_;
};

std::vector<std::int64_t> difference(std::span<const std::int64_t> a, std::span<const std::int64_t> b) {
  std::vector<std::int64_t> result(a.size());
  for (std::size_t d = 0; d < a.size(); ++d) result[d] = a[d] - b[d];
  return result;
}

// Copies what the tensor's stored regions and the shard's region share. check_manifest() made sure that the
// regions cover the tensor, so nothing is left unfilled.
void fill(const TensorShard& shard, const ManifestTensor& tensor, ShardFiles& files) {
  if (volume(shard.extent) == 0) return;
  const auto element_bytes = static_cast<std::int64_t>(num_bytes(shard.dtype));
  change_buffer(shard, [&](std::byte* to_data) {
    for (const ManifestRegion& part : tensor.regions) {
      const auto shared = intersection(part.region, region_of(shard));
      if (!shared) continue;
      const std::byte* from_data = files.data(tensor, part);
      for_each_run({shared->extent, part.region.extent, difference(shared->offset, part.region.offset),
                    shard.buffer_shape, difference(shared->offset, shard.offset)},
                   [&](std::int64_t from, std::int64_t to, std::int64_t num_elements) {
                     std::memcpy(to_data + to * element_bytes, from_data + from * element_bytes,
                                 static_cast<std::size_t>(num_elements * element_bytes));
                   });
    }
  });
}

// The whole tensor, in a buffer that `elements` becomes.
TensorShard whole_tensor(const ManifestTensor& tensor, std::vector<std::byte>& elements) {
  elements.resize(static_cast<std::size_t>(volume(tensor.global_shape)) * num_bytes(tensor.dtype));
  TensorShard shard;
  shard.name = tensor.name;
  shard.dtype = tensor.dtype;
  shard.global_shape = shard.buffer_shape = shard.extent = tensor.global_shape;
  shard.offset.assign(tensor.global_shape.size(), 0);
  shard.memory = host_memory(elements.data(), tensor.dtype);
  return shard;
}

std::vector<const ManifestTensor*> select_exported(const Manifest& manifest,
                                                   std::span<const ExportedTensor> tensors,
                                                   const path& checkpoint) {
  const auto known = by_name(manifest);
  std::vector<const ManifestTensor*> selected;
  for (const ExportedTensor& tensor : tensors) {
    const auto found = known.find(tensor.name);
    if (found == known.end())
      fail(Fault::kData, checkpoint.string(), ": holds no tensor '", tensor.name,
           "'\n  it was written by another model");
    const std::vector<std::int64_t>& shape = found->second->global_shape;
    if (checked_volume(tensor.shape) != volume(shape))
      fail(Fault::kData, checkpoint.string(), ": tensor '", tensor.name, "' is ", shape_text(shape),
           ", which cannot become ", shape_text(tensor.shape), "\n  it was written by another model");
    selected.push_back(found->second);
  }
  return selected;
}

}  // namespace

TrainingCursor load_checkpoint(const path& directory, std::span<const TensorShard> shards,
                               Communicator& world) {
  Manifest manifest;
  std::vector<std::int32_t> wanted;
  agree(world, [&] {
    manifest = read_manifest(directory);
    wanted = wanted_tensors(manifest, shards, directory);
  });
  if (!wanted.empty())
    world.all_reduce(wanted.data(), wanted.size(), DType::kI32, ReduceOp::kMax, {.value = "wanted tensors"});
  agree(world, [&] {
    refuse_unwanted(manifest, wanted, directory);
    verify_files(directory, manifest, world.rank(), world.size());
  });
  agree(world, [&] {
    const auto tensors = by_name(manifest);
    ShardFiles files(directory, manifest);
    for (const TensorShard& shard : shards) fill(shard, *tensors.at(shard.name), files);
  });
  return manifest.cursor;
}

void export_model(const path& checkpoint, std::span<const ExportedTensor> tensors, const path& file) {
  const Manifest manifest = read_manifest(checkpoint);
  const std::vector<const ManifestTensor*> selected = select_exported(manifest, tensors, checkpoint);
  verify_files(checkpoint, manifest, 0, 1);
  std::vector<TensorSpec> specs;
  for (std::size_t i = 0; i < selected.size(); ++i)
    for (ExportedTensor& tensor : tensors_in_files(tensors[i]))  // they lie in it one after the other
      specs.push_back({std::move(tensor.name), stored(selected[i]->dtype), std::move(tensor.shape)});
  SafetensorsWriter writer(file, specs, {{"format", "pt"}});  // transformers refuses files without it
  ShardFiles files(checkpoint, manifest);
  std::vector<std::byte> elements;
  for (const ManifestTensor* tensor : selected) {
    fill(whole_tensor(*tensor, elements), *tensor, files);
    writer.append(elements.data(), elements.size());
  }
  writer.commit();
}

}  // namespace takt
