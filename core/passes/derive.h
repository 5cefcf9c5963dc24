// derive: what is computed once for many runs of a program becomes a persistent, derived value.
#pragma once

#include "core/graph/graph.h"

namespace takt {

// Which parameters a program reads through a copy.
enum class Copies {
  kCasts,  // those that it reads in another dtype: the bf16 copy of an f32 master
  kAll,    // every one: the master may be cut where the program needs it whole
};

// The program reading derived values instead: the constants that it computed from nothing (tables of positions), and
// copies of parameters. A derived value has the name of what it replaces, and Value::of says of which parameter it is.
Graph reading_derived(const Graph& program, Copies copies);

// The programs that compute the derived values of `reading`, which was made from `program`: constants once at the
// start, copies then too and after every update. Either may be empty.
Graph build_constants(const Graph& program, const Graph& reading);
Graph build_refresh(const Graph& program, const Graph& reading);

}  // namespace takt
