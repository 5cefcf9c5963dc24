// The test's side of the emulated device: how many devices, in which order things run, which calls fail, what was found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace takt::emulated {

// When queued operations run. kLazy: only when someone waits for them, so that whatever lacks a wait comes too late.
// kPriority: nothing before the host waits; then a device's streams run in an order of priority drawn from the seed, so
// that whatever lacks a wait comes too early or too late. kEager: at once, like an idle device.
enum class Schedule { kEager, kLazy, kPriority };

// The order in which the threads of a block and the blocks of a grid start.
enum class ThreadOrder { kForward, kReverse, kRandom };

// Whose properties cudaGetDeviceProperties tells.
enum class Model { kH100, kB200, kRtxPro6000 };

struct Settings {
  int num_devices = 8;  // up to 512
  Model model = Model::kH100;
  std::size_t memory_bytes = std::size_t{1}
                             << 30;  // of each device; one more byte is cudaErrorMemoryAllocation
  Schedule schedule = Schedule::kEager;
  ThreadOrder thread_order = ThreadOrder::kForward;
  uint64_t seed = 1;                  // of the schedule, the thread order, the order of a graph's nodes
  int hold_ms = 30;                   // lazy and priority: an operation that nobody waits for runs after this
  bool check_kernel_pointers = true;  // a kernel's pointer arguments must lie in live device or pinned memory
  bool forbid_pageable_copies =
      true;  // cudaMemcpyAsync with pageable host memory is diagnosed: it is not asynchronous
  bool races_in_blocks =
      true;  // ThreadSanitizer: one fibre a CUDA thread. false: cheap, sees only streams race
};

// The settings at start come from the environment, so that one test program runs under every schedule:
// TAKT_EMULATED_SCHEDULE=eager|lazy|priority, TAKT_EMULATED_SEED=3, TAKT_EMULATED_THREAD_ORDER=forward|reverse|random,
// TAKT_EMULATED_DEVICES=8, TAKT_EMULATED_MODEL=h100|b200|rtxpro, TAKT_EMULATED_MEMORY_MIB=1024.
Settings settings();

// Call while nothing is queued. Devices that are in use keep what they have.
void configure(const Settings& settings);

// As at start: waits for nothing; repairs broken devices, forgets diagnoses, injected faults and skipped waits, and takes
// the settings back to the environment's.
void reset();

// ---- What was found. ----

// Everything diagnosed since reset(), oldest first; empty after a correct run. The second joins them with newlines.
std::vector<std::string> diagnoses();
std::string all_diagnoses();

// What is alive and what was done. A test compares the live ones before and after to find leaks.
struct Counters {
  std::size_t num_live_allocations = 0;  // device and pinned
  std::size_t live_bytes = 0;
  std::size_t num_live_streams = 0;
  std::size_t num_live_events = 0;
  std::size_t num_live_graphs = 0;  // cudaGraph_t and cudaGraphExec_t
  uint64_t num_operations = 0;      // run so far, of all kinds
  uint64_t num_launches = 0;        // kernels issued
  uint64_t num_copies = 0;          // copies and fills issued
  uint64_t num_host_waits = 0;      // synchronisations of the host with a stream, an event or a device
  uint64_t num_graph_launches = 0;
};
Counters counters();

// ---- What goes wrong on purpose. ----

// The call named `call`, after `after` more of them went well, fails once with `code`, the library's own. Any thread.
//   inject("cudaMalloc", cudaErrorMemoryAllocation, 3);     inject("ncclAllReduce", ncclSystemError);
// With ".run" the fault happens on the stream, when the call's operation runs, and breaks the device:
//   inject("kernel.run", cudaErrorIllegalAddress);          inject("cudaMemcpyAsync.run", cudaErrorECCUncorrectable);
void inject(std::string_view call, int code, uint64_t after = 0);

// Mutation: the n-th cudaStreamWaitEvent from now on (the first is 0) orders nothing, whether it is queued or becomes
// an edge of a captured graph. A test suite that still passes does not test that wait. device: only waits of its streams
// count, so that ranks that are threads do not change each other's numbers; -1: all. Several skips add up. Under the priority
// schedule nothing then runs before the host waits, the stream that lacks its wait runs before all others, and what it should
// have waited for when nothing else can, on any device: what the wait was for shows in nearly every order.
void skip_wait(uint64_t n, int device = -1);
void skip_no_wait();

// Waits since start or the last reset(): how many mutants there are.
uint64_t num_waits(int device = -1);

}  // namespace takt::emulated
