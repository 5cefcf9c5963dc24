// What device code calls: the threads of the block that runs on this OS thread, and how they meet.
//
// device_language.h wraps these in CUDA's names. All of it is called from inside a kernel only.
#pragma once

#include <vector_types.h>

#include <cstdint>
#include <source_location>

// A block runs on one OS thread and its threads take turns, so what CUDA keeps per thread is thread-local here. Real
// variables, not macros: cudaLaunchConfig_t has members named gridDim and blockDim. The TLS model saves a call per use.
#define TAKT_EMULATED_TLS __thread __attribute__((tls_model("initial-exec")))
extern TAKT_EMULATED_TLS uint3 threadIdx;
extern TAKT_EMULATED_TLS uint3 blockIdx;
extern TAKT_EMULATED_TLS dim3 blockDim;
extern TAKT_EMULATED_TLS dim3 gridDim;

namespace takt::emulated {

// Where in the source a thread meets others: two meetings are the same when file, line and column are.
using CallSite = std::source_location;

// The running thread's place in its warp.
extern TAKT_EMULATED_TLS unsigned current_lane;

enum class Reduction { kNone, kOr, kAnd, kCount };

// __syncthreads and its reducing variants.
int block_barrier(Reduction reduction, bool predicate, CallSite site);

enum class WarpOp { kSync, kShuffle, kBallot };

// The lanes of `mask` meet. kShuffle returns what `source_lane` brought as `value`, poison if it was not there; kBallot the
// lanes that brought something else than 0.
uint64_t warp_meet(WarpOp op, unsigned mask, uint64_t value, unsigned source_lane, CallSite site);

// The lanes of the running thread's warp that are neither finished nor waiting elsewhere: only itself is certain.
unsigned active_mask();

// Ends the kernel with a fault, as __trap does.
[[noreturn]] void device_fault(const char* what, CallSite site);

}  // namespace takt::emulated
