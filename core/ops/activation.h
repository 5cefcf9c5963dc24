// The activations as functions, for the ops that have one as their epilogue.
#pragma once

#include <cstdint>
#include <string>

#include "core/graph/op.h"

namespace takt {

double activation_reference(const std::string& kind, double x);
double activation_slope_reference(const std::string& kind, double x);
// The kernel of output 0 = act(input 0), f32 or bf16.
Kernel activation_kernel(const std::string& kind, const KernelNode& node);

}  // namespace takt
