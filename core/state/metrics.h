// Metrics of a run: one JSON object a line in metrics.jsonl, and summary.json at its end.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/state/system_calls.h"

namespace takt {

// One optimizer step. Losses and norms are over all ranks; times and memory are the largest of any rank.
struct StepMetrics {
  std::int64_t step = 0;
  double time_s = 0;     // since the run started
  double loss = 0;       // mean over the global batch
  double grad_norm = 0;  // before clipping
  double lr = 0;
  std::string unit = "tokens";  // what is counted: names the next and the one after step_ms
  std::int64_t units = 0;       // since step 0
  double step_ms = 0;
  double units_per_s = 0;
  double tflops_per_rank = 0;
  std::optional<double> mfu = {};                            // 0 to 1; none where the peak is not known
  std::optional<double> comm_ms = {}, comm_exposed_ms = {};  // none where it is not measured
  std::uint64_t mem_peak_bytes = 0;
};

struct ValidMetrics {
  std::int64_t step = 0;
  double valid_loss = 0;
  std::vector<std::pair<std::string, double>> figures = {};  // "valid_" + name
};

// Appends lines, each handed to the system before write() returns. Root only. Throws kIo.
class MetricsWriter {
 public:
  // Drops the lines of steps after `last_step` first, and a last line that was cut short, so that a resumed
  // run leaves the same steps as one that was never interrupted. Throws kData for a line that is not ours.
  MetricsWriter(const std::filesystem::path& path, std::int64_t last_step);
  void write(const StepMetrics& metrics);
  void write(const ValidMetrics& metrics);

 private:
  void write_line(const std::string& line);

  std::filesystem::path path_;
  FileDescriptor descriptor_;
};

// The number that a file of metrics has for a step under a key, such as "loss"; nullopt where it has none.
std::optional<double> number_of_step(const std::filesystem::path& path, std::int64_t step, const char* key);

// All uses of an op in a step, of a rank: the mean over steps and ranks.
struct OpShare {
  std::string op;  // "all_reduce<data>"
  double num_calls = 0;
  double time_s = 0;
  double share = 0;  // of the step
};

struct RunSummary {
  std::string name;
  std::int64_t steps = 0;
  std::string unit = "tokens";
  std::int64_t units = 0;
  double time_s = 0;
  std::optional<double> loss = {};  // of the last step; none: not known
  std::optional<double> valid_loss = {};
  std::vector<std::pair<std::string, double>> valid_figures = {};  // "valid_" + name
  double units_per_s = 0;                                          // mean
  std::int64_t skipped_steps = 0;                                  // whose numbers were not finite
  int ranks = 1;
  std::string mesh = {};                           // "data=4 tensor=2"
  std::vector<OpShare> ops = {};                   // where they were timed, the longest first
  std::optional<std::uint64_t> weights_hash = {};  // see weights_hash.h; written as 16 hexadecimal digits
  int exit = 0;                                    // the exit code
};
void write_summary(const std::filesystem::path& path, const RunSummary& summary);

}  // namespace takt
