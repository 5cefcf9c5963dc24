// Element types and reductions of the NCCL double.
//
// A reduction over ranks is the binary tree of collectives/reduce.h, so that where the CPU backends can reduce a type, the
// bits are the same. Types of 16 bits are rounded at every node, as each hop of a real NCCL does. The order of a real NCCL
// depends on its algorithm: tests compare with tolerances unless both sides are emulated.
#pragma once

#include <nccl.h>

#include <cstddef>
#include <span>

namespace takt::emulated {

// 0: the double does not know the type.
std::size_t element_bytes(ncclDataType_t type);

// out = the reduction of `terms`, one a rank in rank order, `num_elements` each. `out` overlaps none of them.
// ncclAvg divides by the number of terms at the end.
void reduce_ranks(void* out, std::span<const void* const> terms, std::size_t num_elements,
                  ncclDataType_t type, ncclRedOp_t op);

}  // namespace takt::emulated
