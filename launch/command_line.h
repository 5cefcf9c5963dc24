// From the words of the command line to a command that can run.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "launch/command.h"

namespace takt {

struct CommandLine {
  std::unique_ptr<Invocation> invocation;  // null: there is only the help to print
  bool needs_ranks = false;
  std::string help;
  int exit_code = 0;  // after the help: 0 if it was asked for
};

// `words` without the program's name. Throws kUsage for a command, flag or argument that is unknown, missing
// or malformed.
CommandLine parse_command_line(const std::vector<Command>& commands, const std::vector<std::string>& words);

}  // namespace takt
