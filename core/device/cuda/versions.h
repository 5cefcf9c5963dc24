// The versions of NVIDIA's libraries: of the headers that this was compiled with, and of what is loaded.
#pragma once

#include <vector>

#include "core/device/cuda_support.h"

namespace takt {

std::vector<LibraryVersion> cuda_library_versions();

}  // namespace takt
