// What counters() of control.h tells, as the parts of the double count it.
#pragma once

#include <atomic>
#include <cstdint>

namespace takt::emulated {

struct LiveCounters {
  std::atomic<int64_t> num_streams{0};
  std::atomic<int64_t> num_events{0};
  std::atomic<int64_t> num_graphs{0};
  std::atomic<uint64_t> num_operations{0};
  std::atomic<uint64_t> num_launches{0};
  std::atomic<uint64_t> num_copies{0};
  std::atomic<uint64_t> num_host_waits{0};
  std::atomic<uint64_t> num_graph_launches{0};
};
LiveCounters& live_counters();

inline void count_operation() {
  ++live_counters().num_operations;
}

// Counts a cudaStreamWaitEvent of a stream of `device`. True when the test wants this one to order nothing.
bool next_wait_is_skipped(int device);
bool some_wait_is_skipped();  // or will be

// Allocations that are alive, of devices and pinned.
struct LiveMemory {
  uint64_t num_allocations = 0;
  uint64_t num_bytes = 0;
};
LiveMemory live_memory();

// Diagnoses writes to the blocks in quarantine.
void check_quarantine();

}  // namespace takt::emulated
