// The lines of the training console, from plain structs. Text only; Console prints them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/state/metrics.h"

namespace takt {

struct RunHeader {
  std::string version;  // "0.1.0"
  std::string build;    // "cpu+cuda, git 1a2b3c4"
  std::string run_directory;
  int num_ranks = 1;
  int num_hosts = 1;
  std::string launcher;          // "Open MPI 4.1.4"; empty: not said
  std::string backend;           // "cpu: oneDNN 2.6.3 avx512_bf16"
  int num_threads = 1;           // a rank
  double peak_flops_per_s = 0;   // of a rank; 0: not said
  bool peak_is_measured = true;  // else it is the data sheet's
  std::string model;             // "gpt"
  std::int64_t num_parameters = 0;
  std::string unit = "tokens";  // what is counted
  std::int64_t train_units = 0;
  std::int64_t valid_units = 0;
  std::string mesh;              // "data=2"
  std::int64_t batch_units = 0;  // = data_ranks x accumulated x micro_batch x units_a_sample
  int data_ranks = 1;
  std::int64_t accumulated = 1;
  std::int64_t micro_batch = 1;
  std::int64_t units_a_sample = 1;
  std::uint64_t memory_bytes = 0;        // planned, a rank
  std::uint64_t memory_limit_bytes = 0;  // 0: not said
  std::uint64_t checkpoint_bytes = 0;
  std::int64_t checkpoint_steps = 0;  // between checkpoints; 0: see the next
  double checkpoint_s = 0;            // between checkpoints; 0: only at the end
  double predicted_step_s = 0;        // 0: not said
  std::int64_t steps = 0;
};

struct StepLine {
  std::int64_t step = 0;
  std::int64_t steps = 0;
  std::string unit = "tokens";  // what is counted
  double loss = 0;
  double grad_norm = 0;
  double lr = 0;
  double step_s = 0;
  double units_per_s = 0;
  std::optional<double> mfu = {};  // fraction of the peak
  // Fractions of the step: in collectives, and waiting for them. None where it is not measured.
  std::optional<double> comm = {}, exposed = {};
  std::uint64_t memory_bytes = 0;  // most used, a rank
  double eta_s = 0;
};

struct ValidLine {
  std::int64_t step = 0;
  std::int64_t steps = 0;
  double loss = 0;
  std::vector<std::pair<std::string, double>> figures = {};  // "bits_per_byte" and its number
  double time_s = 0;
  bool is_best = false;
};

struct CheckpointLine {
  std::int64_t step = 0;
  std::int64_t steps = 0;
  std::string name;  // "step-000500"
  std::uint64_t num_bytes = 0;
  double time_s = 0;
  double blocking_s = 0;  // of it, how long training waited
  bool is_verified = false;
};

// One part of the step, over ranks.
struct SectionTime {
  std::string name;
  double min_s = 0;
  double average_s = 0;
  double max_s = 0;
  double share = 0;  // of the step
};

struct DoneLine {
  std::int64_t steps = 0;
  std::string unit = "tokens";
  std::int64_t num_units = 0;
  double time_s = 0;
  std::optional<double> loss = {};  // of the last step
  std::optional<double> valid_loss = {};
  double units_per_s = 0;  // mean; 0: no step was done
  std::optional<double> mfu = {};
  std::vector<SectionTime> sections = {};
  std::vector<OpShare> ops = {};
};

// "bits per byte" for "bits_per_byte".
std::string words_of(std::string name);

// Several lines are joined by newlines; none ends with one.
std::string header_text(const RunHeader& header);
std::string titles_text(std::int64_t steps, const std::string& unit);
std::string step_text(const StepLine& line);
std::string valid_text(const ValidLine& line);
std::string checkpoint_text(const CheckpointLine& line);
std::string done_text(const DoneLine& line);

}  // namespace takt
