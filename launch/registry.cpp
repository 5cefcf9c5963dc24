// One line a command, in alphabetical order.
#include "launch/registry.h"

namespace takt {

std::vector<Command> all_commands() {
  return {
      bench_command(), data_command(),    generate_command(), keys_command(),
      plan_command(),  predict_command(), train_command(),    version_command(),
  };
}

}  // namespace takt
