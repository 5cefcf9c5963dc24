// A launch of a kernel: all blocks of its grid, one after the other, on the calling thread.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/emulated/bind.h"

namespace takt::emulated {

// The arguments of a launch, copied when it was issued.
class Arguments {
 public:
  Arguments(const std::vector<Parameter>& parameters, void** arguments);
  // One pointer an argument, into copies of its own; a launch of a graph uses the same object again.
  std::vector<void*> pointers() const;
  // The values of the parameters that are pointers.
  const std::vector<const void*>& addresses() const { return addresses_; }

 private:
  std::vector<std::vector<uint64_t>> copies_;
  std::vector<const void*> addresses_;
};

struct Launch {
  const void* kernel = nullptr;
  Invoke invoke = nullptr;
  dim3 grid;
  dim3 block;
  std::size_t dynamic_bytes = 0;
};

// Throws DeviceFault (block.h) at the first block that fails.
void run_grid(const Launch& launch, const Arguments& arguments);

}  // namespace takt::emulated
