// The manifest of a checkpoint: which region of which tensor lies in which file, and the hash of every file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/state/checkpoint.h"
#include "core/state/files.h"
#include "core/state/region.h"

namespace takt {

struct ManifestFile {
  std::string name;
  FileDigest digest;
};

struct ManifestRegion {
  std::size_t file = 0;  // index into Manifest::files; the tensor has its own name there
  Region region;
};

struct ManifestTensor {
  std::string name;
  bool is_optimizer = false;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> global_shape;
  std::vector<ManifestRegion> regions;
};

struct Manifest {
  TrainingCursor cursor;
  std::vector<ManifestFile> files;
  std::vector<ManifestTensor> tensors;
};

inline constexpr const char* kManifestName = "manifest.json";

// The text of manifest.json, which ends in the hash of the rest, so that no byte of it can change unnoticed.
std::string to_text(const Manifest& manifest);
// Throws kData, naming `source`, for anything to_text() did not write.
Manifest parse_manifest(std::string_view text, const std::string& source);

// Throws `fault` unless every tensor is covered exactly once by its regions and all names are valid.
void check_manifest(const Manifest& manifest, Fault fault, const std::string& source);

// The files and tensors of all parts, each as one rank wrote it. Throws kBug where two ranks disagree about a tensor.
Manifest merged(std::span<const Manifest> parts);

}  // namespace takt
