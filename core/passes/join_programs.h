// join_programs: two programs that run one after the other become one.
#pragma once

#include "core/graph/graph.h"

namespace takt {

// `first` and then `then`, both parallelized, over the same inputs and persistent values: what `then` reads of those is
// what `first` has left there. Outputs are those of `first`, then those of `then`. Nothing is placed anew, so that the
// result computes the bits that the two would; but what `then` moves between ranks may now start while `first` still
// computes. Throws kBug if they disagree on a value.
Graph joined(const Graph& first, const Graph& then);

}  // namespace takt
