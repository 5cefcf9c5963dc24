// A launch of a kernel: see grid.h.
#include "tests/emulated/grid.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <string>

#include "tests/emulated/block.h"
#include "tests/emulated/control.h"
#include "tests/emulated/shared_memory.h"

namespace takt::emulated {
namespace {

thread_local SharedMemory shared_memory;

std::vector<uint64_t> block_order(uint64_t num_blocks, ThreadOrder order, std::mt19937_64& random) {
  std::vector<uint64_t> blocks(num_blocks);
  std::iota(blocks.begin(), blocks.end(), uint64_t{0});
  if (order == ThreadOrder::kReverse) std::reverse(blocks.begin(), blocks.end());
  if (order == ThreadOrder::kRandom) std::shuffle(blocks.begin(), blocks.end(), random);
  return blocks;
}

uint3 block_index(uint64_t block, dim3 grid) {
  return {unsigned(block % grid.x), unsigned(block / grid.x % grid.y),
          unsigned(block / (uint64_t(grid.x) * grid.y))};
}

void check_overflow(const Launch& launch, uint3 block) {
  const auto offset = shared_memory.overflow();
  if (!offset) return;
  throw DeviceFault{"block (" + std::to_string(block.x) + ", " + std::to_string(block.y) + ", " +
                    std::to_string(block.z) + ") wrote behind its " + std::to_string(launch.dynamic_bytes) +
                    " bytes of dynamic shared memory, at offset " + std::to_string(*offset)};
}

}  // namespace

unsigned char* dynamic_shared() {
  return shared_memory.dynamic();
}

Arguments::Arguments(const std::vector<Parameter>& parameters, void** arguments) {
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    auto& copy = copies_.emplace_back((parameters[i].num_bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t));
    std::memcpy(copy.data(), arguments[i], parameters[i].num_bytes);
    if (!parameters[i].is_pointer) continue;
    std::memcpy(&addresses_.emplace_back(), arguments[i], sizeof(void*));
  }
}

std::vector<void*> Arguments::pointers() const {
  std::vector<void*> pointers;
  for (const auto& copy : copies_) pointers.push_back(const_cast<uint64_t*>(copy.data()));
  return pointers;
}

void run_grid(const Launch& launch, const Arguments& arguments) {
  const Settings now = settings();
  BlockExecutor& executor = block_executor();
  executor.order = now.thread_order;
#if defined(TAKT_EMULATED_TSAN)
  executor.fiber_per_thread = now.races_in_blocks;
#endif
  std::vector<void*> pointers = arguments.pointers();
  std::mt19937_64 random(now.seed);
  gridDim = launch.grid;
  shared_memory.begin_grid(launch.kernel, launch.dynamic_bytes);
  const uint64_t num_blocks = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
  for (const uint64_t block : block_order(num_blocks, now.thread_order, random)) {
    const uint3 index = block_index(block, launch.grid);
    shared_memory.begin_block();
    executor.run(launch.kernel, launch.invoke, pointers.data(), index, launch.block, random);
    check_overflow(launch, index);
    if (!shared_memory.knows_used()) shared_memory.learn_used();
  }
  shared_memory.learn_used();
}

}  // namespace takt::emulated
