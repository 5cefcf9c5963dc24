// check_memory: does every node of a program find in memory what was written for it?
#pragma once

#include <span>
#include <string_view>

#include "core/graph/graph.h"
#include "core/passes/memory_plan.h"

namespace takt {

// Goes through the program noting who wrote each byte last. What a node reads must still be that value's; what a started
// collective reads and writes, and its scratch, must not have been written by others until its done. Throws kBug naming
// program, node and value. `scratch`: bytes by node.
void check_memory(std::string_view program, const Graph& graph, const ProgramMemory& memory,
                  std::span<const std::size_t> scratch);

}  // namespace takt
