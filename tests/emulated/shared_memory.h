// Shared memory of a block, dynamic and static: filled with NaNs before every block, and guarded behind its end.
#pragma once

#include <cstddef>
#include <optional>
#include <unordered_map>
#include <vector>

namespace takt::emulated {

// The variables that kernels declare __shared__ in one library. They are thread-local there, so that they are its TLS
// segment: found without a macro at the declaration. Empty for a library that also holds the emulated device.
struct StaticShared {
  unsigned char* begin = nullptr;  // of the calling thread
  std::size_t num_bytes = 0;
};
StaticShared find_static_shared(const void* kernel);

// The shared memory of the blocks that one OS thread runs.
class SharedMemory {
 public:
  // A grid begins. Fills all of the kernel's static shared memory.
  void begin_grid(const void* kernel, std::size_t dynamic_bytes);

  // A block begins: everything is as if never written.
  void begin_block();

  // The offset behind the dynamic shared memory that the block wrote to; nullopt: it did not.
  std::optional<std::size_t> overflow() const;

  // After a grid, and after the first block of a new kernel: learns which of the static variables it uses, which is what
  // begin_block fills.
  void learn_used();
  bool knows_used() const { return used_.count(kernel_) > 0; }

  unsigned char* dynamic() { return dynamic_begin_; }

 private:
  struct Extent {
    std::size_t begin = 0;
    std::size_t end = 0;
  };

  const void* kernel_ = nullptr;
  std::vector<unsigned char> buffer_;
  unsigned char* dynamic_begin_ = nullptr;
  std::size_t dynamic_bytes_ = 0;
  StaticShared static_;
  std::unordered_map<const void*, StaticShared> found_;  // by kernel
  std::unordered_map<const void*, Extent> used_;         // by kernel
};

}  // namespace takt::emulated
