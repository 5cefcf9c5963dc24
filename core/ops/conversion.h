// conversion: the ops that parallelize inserts to turn one placement into another along one mesh axis.
#pragma once

#include <string>

#include "core/graph/graph.h"

namespace takt {

const OpDef& all_gather_op();  // sharded -> replicated
const OpDef& all_reduce_op();  // partial -> replicated; with several inputs, one bucket in adjacent storage
const OpDef& all_to_all_op();  // sharded(a) -> sharded(b)
const OpDef&
keep_on_first_op();  // replicated -> partial: the first rank keeps the value, the others hold zeros
const OpDef& local_slice_op();     // replicated -> sharded
const OpDef& reduce_scatter_op();  // partial -> sharded

}  // namespace takt
