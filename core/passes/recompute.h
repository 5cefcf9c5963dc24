// recompute: the backward pass computes activations again instead of keeping them.
#pragma once

#include <span>
#include <string_view>

#include "core/graph/graph.h"

namespace takt {

// What a layer's backward pass computes again (Chen et al. 2016, arXiv:1604.06174). Each has what those before it have.
enum class Recompute {
  kNone,
  kSelective,  // all but matrix products and attention, which cost most and are kept
  kFull,       // everything: a layer keeps what other layers gave it
};
std::span<const std::string_view> recompute_names();  // "none", "selective", "full"

// `differentiated` is a global graph whose nodes know their layer and phase. Copies stand before the first node of the
// layer's backward pass that reads them, belong to that pass, and are called "<name>.again". What lies outside of layers
// is kept.
Graph recomputing(const Graph& differentiated, Recompute what);

}  // namespace takt
