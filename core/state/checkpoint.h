// Checkpoints: a directory of safetensors shards and a manifest of global shapes and offsets, so that any
// mesh loads what any mesh wrote.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "core/base/tensor.h"
#include "core/state/shard_memory.h"

namespace takt {

// One tensor as this rank holds it: a row-major buffer whose leading `extent` elements along each dimension
// are the region of the global tensor that starts at `offset`. The rest of the buffer, if any, is padding and is zero.
struct TensorShard {
  std::string name;           // the Hugging Face name; for optimizer state "<slot>.<name>"
  bool is_optimizer = false;  // optimizer-*.safetensors instead of model-*.safetensors
  DType dtype = DType::kF32;
  std::vector<std::int64_t> global_shape = {};
  std::vector<std::int64_t> buffer_shape = {};  // local, with padding
  std::vector<std::int64_t> offset = {};        // of the region in the global tensor
  std::vector<std::int64_t> extent = {};        // of the region
  ShardMemory memory = {};                      // of elements of `dtype`
  bool writes = true;                           // of the ranks that hold this region, the one that saves it
};

// What must be the same for a run to go on from a checkpoint. Names are part of the format of checkpoints,
// not of the job file: they stay when a key is renamed.
struct ComparedFacts {
  std::int64_t version = 0;                       // of the list of names; 0: there is no table
  std::map<std::string, std::string> facts = {};  // name -> canonical text
  bool operator==(const ComparedFacts&) const = default;
};

// What a run needs beside its tensors to go on exactly where it stopped.
struct TrainingCursor {
  std::int64_t step = 0;     // finished optimizer steps
  std::int64_t samples = 0;  // samples consumed: the whole data cursor
  std::uint64_t seed = 0;
  double best_valid_loss = 0;  // 0: none yet
  std::string effective_job;   // the job file as run, for people
  ComparedFacts compared;
};

struct SaveReport {
  std::filesystem::path directory;
  std::uint64_t num_bytes = 0;  // over all ranks
  double time_s = 0;
};

// Writes root/step-NNNNNN/ (temporary name, fsync, read back and verified, renamed) and then root/LATEST.
// Keeps the newest `keep` checkpoints (at least 2). Every rank of `world` calls it with its own shards.
// Throws kIo where a rank cannot write, on every rank; then no visible checkpoint has changed.
SaveReport save_checkpoint(const std::filesystem::path& root, std::span<const TensorShard> shards,
                           const TrainingCursor& cursor, int keep, Communicator& world);

// Fills every shard's region (padding is left alone) from a directory any mesh wrote. Every hash is checked.
// Throws kData, on every rank, for a missing or malformed file, a flipped byte, or a tensor that is missing
// or has another global shape.
TrainingCursor load_checkpoint(const std::filesystem::path& directory, std::span<const TensorShard> shards,
                               Communicator& world);

// The directory name of a step's checkpoint: "step-000500".
std::string checkpoint_name(std::int64_t step);

// The step directories under `root`, oldest first, that have a manifest. Throws kIo.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& root);

// A tensor of the model under the shape in which other software expects it (same elements). A "*" in the name stands for
// the number of an element of the first axis: that is then many tensors there, one an expert, each with the other axes.
struct ExportedTensor {
  std::string name;
  std::vector<std::int64_t> shape = {};
};
// The tensors of other software that it is: itself, or those of the elements of its first axis, in order.
std::vector<ExportedTensor> tensors_in_files(const ExportedTensor& tensor);

// Assembles whole model tensors from a checkpoint into one safetensors file. Root only.
void export_model(const std::filesystem::path& checkpoint, std::span<const ExportedTensor> tensors,
                  const std::filesystem::path& file);

// Fills every non-optimizer shard from one safetensors file as Hugging Face writes it (f32, bf16 or f16; also
// several files listed by model.safetensors.index.json). `exported` are the shapes that the file must have;
// see pretrained.h. Throws kData where it holds other tensors.
void import_model(const std::filesystem::path& file_or_directory, std::span<const TensorShard> shards,
                  std::span<const ExportedTensor> exported);

}  // namespace takt
