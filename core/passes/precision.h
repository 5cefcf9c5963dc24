// precision: runs the heavy part of a program in bf16.
#pragma once

#include "core/graph/graph.h"

namespace takt {

// The dtype in which a program computes what allows it.
enum class Precision { kF32, kBF16 };
Precision find_precision(std::string_view name);  // "fp32", "bf16"; kConfig

// Matrix products, attention, activations, positions and look-ups take bf16; norms, softmax, the loss, sums and updates
// stay in f32, and so do accumulators and parameters (the masters). A cast stands wherever a value is needed in the
// other dtype, once a value; a product whose readers all want f32 gives it directly, so that gradients of parameters
// are accumulated as they were summed, in f32. Parameters are read through casts: see derive.
//
// `differentiated` is a global graph after autodiff. Source: Micikevicius et al. 2018, arXiv:1710.03740.
Graph in_bf16(const Graph& differentiated);

}  // namespace takt
