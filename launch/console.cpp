// Two sinks, flushed line by line: a scheduler's log is read while the run goes on, and a crash loses nothing.
#include "launch/console.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include "core/base/error.h"

namespace takt {
namespace {

std::unique_ptr<spdlog::logger> make_logger(const std::filesystem::path& log_file) {
  try {
    const auto terminal = std::make_shared<spdlog::sinks::stdout_sink_st>();
    const auto file = std::make_shared<spdlog::sinks::basic_file_sink_st>(log_file.string());
    auto logger = std::make_unique<spdlog::logger>("console", spdlog::sinks_init_list{terminal, file});
    logger->set_pattern("%v");
    logger->flush_on(spdlog::level::info);
    logger->set_error_handler([log_file](const std::string& message) {
      fail(Fault::kIo, "console: ", log_file.string(), " cannot be written: ", message);
    });
    return logger;
  } catch (const spdlog::spdlog_ex& error) {
    fail(Fault::kIo, "console: ", log_file.string(), " cannot be opened: ", error.what());
  }
}

}  // namespace

Console::Console(const std::filesystem::path& log_file) : logger_(make_logger(log_file)) {}
Console::~Console() = default;

void Console::print(const RunHeader& header) {
  print(header_text(header));
}

void Console::print(const StepLine& line) {
  if (!has_titles_) print(titles_text(line.steps));
  has_titles_ = true;
  print(step_text(line));
}

void Console::print(const ValidLine& line) {
  print(valid_text(line));
}
void Console::print(const CheckpointLine& line) {
  print(checkpoint_text(line));
}
void Console::print(const DoneLine& line) {
  print(done_text(line));
}
void Console::print(std::string_view text) {
  logger_->info(text);
}

}  // namespace takt
