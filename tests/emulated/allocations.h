// Memory of the emulated devices: which addresses are whose, and whether they are still alive.
//
// A freed block is filled with poison and kept in quarantine, so that who still reads it gets NaNs, who still writes it
// is found when the block leaves quarantine, and a range check can say "was freed".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace takt::emulated {

enum class Place { kDevice, kPinned };

// The allocation that an address lies in.
struct Allocation {
  uintptr_t base = 0;
  std::size_t num_bytes = 0;
  int device = 0;  // of pinned memory: the device that was current
  Place place = Place::kDevice;
  bool freed = false;  // in quarantine
};

// Any device, for check_range: peers' memory is as good.
inline constexpr int kAnyDevice = -1;

// The block that `pointer` lies in, freed ones too. nullopt: pageable host memory, or never allocated.
std::optional<Allocation> find_allocation(const void* pointer);

// True when [pointer, pointer + num_bytes) lies in one live allocation that `device` may use: its own or pinned memory.
// Else diagnoses "`what` ..." and returns false. Zero bytes are always right.
bool check_range(const void* pointer, std::size_t num_bytes, int device, std::string_view what);

// The same without recording: empty when the range is right, else the sentence.
std::string range_problem(const void* pointer, std::size_t num_bytes, int device, std::string_view what);

// What ncclMemAlloc, a handle's workspace and the like are made of: counted and limited as cudaMalloc's memory is.
// nullptr when `device` has not that much left. release_device_memory is false when `pointer` is not the start of a
// live block.
void* allocate_device_memory(std::size_t num_bytes, int device);
bool release_device_memory(void* pointer);

}  // namespace takt::emulated
