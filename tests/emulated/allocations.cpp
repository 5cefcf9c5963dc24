// Memory of the emulated devices: see allocations.h. It comes from the heap, so that AddressSanitizer guards its ends.
#include "tests/emulated/allocations.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>

#include "tests/emulated/control.h"
#include "tests/emulated/counters.h"
#include "tests/emulated/device.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/memory.h"
#include "tests/emulated/stream_queue.h"
#include "tests/emulated/sync.h"

namespace takt::emulated {
namespace {

constexpr std::size_t kAlignment = 256;     // that cudaMalloc promises
constexpr unsigned char kUnwritten = 0xff;  // NaN in every floating type
constexpr unsigned char kFreed = 0xfd;      // a large negative number
constexpr std::size_t kQuarantineBytes = std::size_t{64} << 20;
constexpr std::size_t kQuarantineBlocks = 1024;

struct Memory {
  Mutex mutex;
  std::map<uintptr_t, Allocation> blocks;  // by base; those in quarantine too
  std::deque<uintptr_t> quarantine;
  std::size_t quarantine_bytes = 0;
};
Memory& memory() {
  static Memory& the_memory = *new Memory;  // workers outlive main
  return the_memory;
}

// Under the mutex.
const Allocation* find_locked(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  auto next = memory().blocks.upper_bound(address);
  if (next == memory().blocks.begin()) return nullptr;
  const Allocation& block = std::prev(next)->second;
  return address < block.base + block.num_bytes ? &block : nullptr;
}

// Where someone wrote to a block after it was freed.
void check_freed(const Allocation& block) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(block.base);
  const auto* end = bytes + block.num_bytes;
  const auto* written = std::find_if(bytes, end, [](unsigned char byte) { return byte != kFreed; });
  if (written != end)
    diagnose("written after it was freed: byte " + std::to_string(written - bytes) + " of a block of " +
             std::to_string(block.num_bytes) + " bytes of device " + std::to_string(block.device));
}

// Gives the oldest freed blocks back, until few enough are left. Under the mutex.
void shorten_quarantine() {
  Memory& all = memory();
  while (all.quarantine_bytes > kQuarantineBytes || all.quarantine.size() > kQuarantineBlocks) {
    const auto block = all.blocks.find(all.quarantine.front());
    all.quarantine.pop_front();
    all.quarantine_bytes -= block->second.num_bytes;
    check_freed(block->second);
    std::free(reinterpret_cast<void*>(block->second.base));
    all.blocks.erase(block);
  }
}

bool reserve(Device& device, std::size_t num_bytes) {
  const std::size_t limit = settings().memory_bytes;
  std::size_t used = device.used_bytes.load();
  do {
    if (num_bytes > limit || used > limit - num_bytes) return false;
  } while (!device.used_bytes.compare_exchange_weak(used, used + num_bytes));
  return true;
}

}  // namespace

void* allocate(std::size_t num_bytes, int device_index, Place place) {
  if (place == Place::kDevice && !reserve(device(device_index), num_bytes)) return nullptr;
  void* pointer = nullptr;
  if (posix_memalign(&pointer, kAlignment, num_bytes) != 0) return nullptr;
  std::memset(pointer, kUnwritten, num_bytes);
  const Lock lock(memory().mutex);
  const auto base = reinterpret_cast<uintptr_t>(pointer);
  memory().blocks[base] = {.base = base, .num_bytes = num_bytes, .device = device_index, .place = place};
  return pointer;
}

bool release(void* pointer, Place place) {
  Memory& all = memory();
  const Lock lock(all.mutex);
  const auto found = all.blocks.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == all.blocks.end() || found->second.freed || found->second.place != place) return false;
  Allocation& block = found->second;
  block.freed = true;
  if (place == Place::kDevice) device(block.device).used_bytes -= block.num_bytes;
  announce_write(pointer, block.num_bytes);
  std::memset(pointer, kFreed, block.num_bytes);
  all.quarantine.push_back(block.base);
  all.quarantine_bytes += block.num_bytes;
  shorten_quarantine();
  return true;
}

void* allocate_device_memory(std::size_t num_bytes, int device_index) {
  return allocate(std::max(num_bytes, std::size_t{1}), device_index, Place::kDevice);
}
bool release_device_memory(void* pointer) {
  return release(pointer, Place::kDevice);
}

std::optional<Allocation> find_allocation(const void* pointer) {
  const Lock lock(memory().mutex);
  const Allocation* block = find_locked(pointer);
  return block != nullptr ? std::optional(*block) : std::nullopt;
}

std::string range_problem(const void* pointer, std::size_t num_bytes, int device_index,
                          std::string_view what) {
  if (num_bytes == 0) return {};
  const std::string name(what);
  const std::string size = std::to_string(num_bytes) + " bytes";
  const auto block = find_allocation(pointer);
  if (!block)
    return name + ": " + size + (pointer ? " that no device allocation holds" : " at a null pointer");
  const std::string inside = " in a block of " + std::to_string(block->num_bytes);
  if (block->freed) return name + ": " + size + inside + ", which was freed";
  const std::size_t offset = reinterpret_cast<uintptr_t>(pointer) - block->base;
  if (num_bytes > block->num_bytes - offset)
    return name + ": " + size + " from byte " + std::to_string(offset) + inside + ", which ends before";
  if (block->place == Place::kDevice && device_index != kAnyDevice && block->device != device_index)
    return name + ": memory of device " + std::to_string(block->device) + ", wanted that of device " +
           std::to_string(device_index);
  return {};
}

bool check_range(const void* pointer, std::size_t num_bytes, int device_index, std::string_view what) {
  const std::string problem = range_problem(pointer, num_bytes, device_index, what);
  if (!problem.empty()) diagnose(problem);
  return problem.empty();
}

LiveMemory live_memory() {
  const Lock lock(memory().mutex);
  LiveMemory live;
  for (const auto& [base, block] : memory().blocks) {
    if (block.freed) continue;
    ++live.num_allocations;
    live.num_bytes += block.num_bytes;
  }
  return live;
}

void check_quarantine() {
  const Lock lock(memory().mutex);
  for (const uintptr_t base : memory().quarantine) {
    Allocation& block = memory().blocks.at(base);
    check_freed(block);
    std::memset(reinterpret_cast<void*>(block.base), kFreed, block.num_bytes);  // told once
  }
}

}  // namespace takt::emulated
