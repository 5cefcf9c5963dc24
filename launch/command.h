// A command of `takt`: a record with its flags and what it does.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace CLI {
class App;
}

namespace takt {

class World;

// What a command may use beside its options.
struct CommandContext {
  World* world = nullptr;                // null unless the command needs ranks
  std::vector<std::string> arguments;    // the whole command line
  std::vector<std::string> environment;  // "NAME=value"
};

// A command whose flags have been read.
class Invocation {
 public:
  virtual ~Invocation() = default;
  // Returns the exit code. Throws Error.
  virtual int run(const CommandContext& context) = 0;
};

struct Command {
  std::string name;
  std::string summary;
  // Adds the command's flags to `app`, which writes into the result when it parses. See with_options.
  std::function<std::unique_ptr<Invocation>(CLI::App& app)> prepare;
  // Every rank runs it. A command that does not need ranks runs on rank 0 alone, also under mpirun.
  bool needs_ranks = false;
};

template <class Options>
class InvocationWith final : public Invocation {
 public:
  using Run = int (*)(const Options&, const CommandContext&);
  explicit InvocationWith(Run function) : function_(function) {}
  Options& options() { return options_; }
  int run(const CommandContext& context) override { return function_(options_, context); }

 private:
  Options options_;
  Run function_;
};

// Command::prepare for a command whose options are a plain struct:
//   {.name = "plan", .summary = "...", .prepare = with_options<RunOptions>(add_run_options, run)}
template <class Options>
std::function<std::unique_ptr<Invocation>(CLI::App&)> with_options(void (*add_options)(CLI::App&, Options&),
                                                                   int (*run)(const Options&,
                                                                              const CommandContext&)) {
  return [add_options, run](CLI::App& app) {
    auto invocation = std::make_unique<InvocationWith<Options>>(run);
    add_options(app, invocation->options());
    return std::unique_ptr<Invocation>(std::move(invocation));
  };
}

}  // namespace takt
