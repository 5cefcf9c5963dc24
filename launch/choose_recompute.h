// train.recompute: keeps as much of the activations as memory allows, where it says "auto".
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/train/compile_step.h"

namespace takt {

std::vector<std::string> recompute_choices();  // those of Recompute, and "auto"

// Compiles with what `asked` says; "auto": computes more and more of a layer again until `compile`, which compiles with
// the compiler as it is then and says whether the plan fits, says yes. The last compilation stays, whether it fits or not.
void choose_recompute(StepCompiler& compiler, const std::string& asked, const std::function<bool()>& compile);

}  // namespace takt
