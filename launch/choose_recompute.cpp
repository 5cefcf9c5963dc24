// The choices are tried in the order in which they keep less.
#include "launch/choose_recompute.h"

namespace takt {

std::vector<std::string> recompute_choices() {
  std::vector<std::string> choices(recompute_names().begin(), recompute_names().end());
  choices.emplace_back("auto");
  return choices;
}

void choose_recompute(StepCompiler& compiler, const std::string& asked,
                      const std::function<bool()>& compile) {
  for (std::size_t i = 0; i < recompute_names().size(); ++i) {
    if (asked != "auto" && asked != recompute_names()[i]) continue;
    compiler.set_recompute(static_cast<Recompute>(i));
    if (compile()) return;
  }
}

}  // namespace takt
