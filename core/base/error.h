// Errors: one exception type, whose fault decides the exit code of the process.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace takt {

// What went wrong, as the exit code that `takt` ends with.
enum class Fault : int {
  kUsage = 64,       // a wrong flag or command
  kData = 65,        // a dataset, tokenizer or checkpoint is missing or malformed
  kBug = 70,         // an invariant of ours does not hold
  kMemory = 71,      // the step does not fit
  kIo = 74,          // the operating system refused a read or write
  kStopped = 75,     // stopped on purpose with a good checkpoint
  kNumerics = 76,    // a loss or gradient is not finite
  kSecurity = 77,    // refused for security
  kConfig = 78,      // the job file, mesh or model cannot be run
  kPeer = 79,        // a peer is lost, hangs, or was never started
  kCorruption = 80,  // silent data corruption is suspected
  kCrashLoop = 93,   // restarts without progress
};

// The message's first line says what is wrong; further lines, indented by two spaces, say what to do.
class Error : public std::runtime_error {
 public:
  Error(Fault fault, const std::string& message) : std::runtime_error(message), fault_(fault) {}
  Fault fault() const { return fault_; }
  int exit_code() const { return static_cast<int>(fault_); }

  // True once every rank holds this same error (see agree() in bootstrap.h), so that rank 0 alone prints it.
  bool agreed() const { return agreed_; }
  void set_agreed() { agreed_ = true; }

 private:
  Fault fault_;
  bool agreed_ = false;
};

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

template <class... Parts>
[[noreturn]] void fail(Fault fault, const Parts&... parts) {
  throw Error(fault, concat(parts...));
}

}  // namespace takt

// Checks the caller: a job, model or mesh that cannot be run. Always on, so not for inner loops.
#define TAKT_REQUIRE(condition, ...)                                     \
  do {                                                                   \
    if (!(condition)) ::takt::fail(::takt::Fault::kConfig, __VA_ARGS__); \
  } while (false)

// Checks us: a failure is a bug in Takt. Always on, so not for inner loops.
#define TAKT_ASSERT(condition, ...)                                                                  \
  do {                                                                                               \
    if (!(condition)) ::takt::fail(::takt::Fault::kBug, __FILE__, ":", __LINE__, ": ", __VA_ARGS__); \
  } while (false)
