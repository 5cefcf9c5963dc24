// Making and freeing blocks of memory, for the calls of the runtime. What doubles of libraries need is in allocations.h.
#pragma once

#include <cstddef>

#include "tests/emulated/allocations.h"

namespace takt::emulated {

// A block filled with NaNs; nullptr when the device has not that much left. At least one byte.
void* allocate(std::size_t num_bytes, int device, Place place);

// Poisons the block and puts it in quarantine. False when no live block of this place begins at `pointer`.
bool release(void* pointer, Place place);

}  // namespace takt::emulated
