// activation: silu and gelu, alone or as the gate of a product.
#pragma once

#include <cstdint>
#include <string>

#include "core/graph/graph.h"

namespace takt {

const OpDef& activation_op();
const OpDef& activation_grad_op();

// y = act(x), elementwise; kind is "silu" or "gelu" (the tanh form).
ValueId activation(Graph& graph, ValueId x, const std::string& kind, const std::string& name);
// dx = act'(x) dy.
ValueId activation_grad(Graph& graph, ValueId x, ValueId dy, const std::string& kind,
                        const std::string& name);

// For ops that have an activation as their epilogue.
double activation_reference(const std::string& kind, double x);
double activation_slope_reference(const std::string& kind, double x);
void activate(const std::string& kind, const float* x, float* y, std::int64_t num_elements, int num_threads);

}  // namespace takt
