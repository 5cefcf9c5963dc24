// The commands of `takt`.
#pragma once

#include <vector>

#include "launch/command.h"

namespace takt {

Command bench_command();
Command data_command();
Command generate_command();
Command keys_command();
Command plan_command();
Command predict_command();
Command train_command();
Command version_command();

// In alphabetical order.
std::vector<Command> all_commands();

}  // namespace takt
