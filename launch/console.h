// The training console: rank 0's lines, on stdout and in a file.
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include "launch/console_text.h"

namespace spdlog {
class logger;
}

namespace takt {

// Only rank 0 makes one. Lines only ever append: nothing is redrawn, so that a log file holds what a terminal shows.
class Console {
 public:
  // Appends to `log_file`. Throws kIo if it cannot be opened.
  explicit Console(const std::filesystem::path& log_file);
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  void print(const RunHeader& header);
  void print(const StepLine& line);  // the first one brings the titles of the columns
  void print(const ValidLine& line);
  void print(const CheckpointLine& line);
  void print(const DoneLine& line);
  void print(std::string_view text);

 private:
  std::unique_ptr<spdlog::logger> logger_;
  bool has_titles_ = false;
};

}  // namespace takt
