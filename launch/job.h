// The job: the whole experiment as one plain struct. launch/schema.cpp maps it to keys of the job file.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "collectives/nccl_settings.h"
#include "core/base/setting.h"
#include "core/mesh/mesh.h"
#include "optimizers/optimizer_config.h"

namespace takt {

struct DataConfig {
  std::vector<std::string> train;  // what they are depends on the model
  std::vector<std::string> valid;
};

// Of the [model] table what every model has.
struct ModelChoice {
  std::string kind = "gpt";
  std::string init;  // a folder or safetensors file to start from; empty: random
};

struct TrainConfig {
  std::int64_t global_batch = 8192;          // "8192 tokens" or "32 samples"
  std::string global_batch_unit = "tokens";  // of the number above: "samples", or what the model counts
  std::int64_t micro_batch = 0;              // samples a rank computes at once; 0: chosen by the plan
  std::int64_t steps = 1000;
  std::string precision = "fp32";  // fp32 | bf16
  std::string recompute = "none";  // of Recompute, or auto
  std::string numerics = "fast";   // see Numerics
  double grad_clip = 1.0;          // 0: off
};

struct MeshConfig {
  bool is_auto = true;    // layout = "auto": all ranks on data
  std::int64_t data = 1;  // 0: what the other axes leave
  std::int64_t context = 1;
  std::int64_t expert = 1;
  std::int64_t tensor = 1;
  std::string shard = "none";    // see Shard
  std::int64_t shard_group = 0;  // data ranks that share one copy; 0: all
  bool sequence = true;          // between products tensor ranks share the tokens
  double bucket_bytes = 0;       // 0: chosen from the data-parallel degree
};

// The axes of mesh.layout, in the order of the mesh: ranks along the last are neighbours.
struct LayoutAxis {
  std::string_view name;
  std::int64_t MeshConfig::*size;
};
inline constexpr LayoutAxis kLayoutAxes[] = {{"data", &MeshConfig::data},
                                             {"context", &MeshConfig::context},
                                             {"expert", &MeshConfig::expert},
                                             {"tensor", &MeshConfig::tensor}};

struct CheckpointConfig {
  std::int64_t every_steps = 0;  // "500 steps"; 0: by time
  double every_s = 20 * 60;      // "20m"; 0: see above
  std::int64_t keep = 3;
};

struct EvalConfig {
  std::int64_t every = 0;    // steps; 0: only at the end
  std::int64_t samples = 0;  // 0: the whole validation set
};

struct LogConfig {
  std::int64_t every = 10;  // steps between console lines
};

struct GuardConfig {
  std::string nan = "stop";     // stop | skip
  double hang_timeout_s = 600;  // "600s"
};

struct DeviceConfig {
  std::string backend = "auto";  // auto | cpu | cuda
  std::string matmul_choices;    // file of measured matmul algorithms; empty: the library's heuristic decides
  bool time_ops = false;         // a table of where the time of a step goes
};

struct Job {
  std::string name = "run";
  std::uint64_t seed = 42;
  DataConfig data;
  ModelChoice model;
  DeviceConfig device;
  NcclSettings nccl;  // timeouts and the domain follow from the run
  TrainConfig train;
  OptimizerConfig optimizer;
  MeshConfig mesh;
  CheckpointConfig checkpoint;
  EvalConfig eval;
  LogConfig log;
  GuardConfig guard;
  int threads = 0;  // CPU threads a rank; 0: cores of the host over its ranks
  // The keys that models declare, by name, where they were given: see settings_of.
  std::map<std::string, SettingValue> settings;
};

}  // namespace takt
