// The test's side of the NCCL double: how patient it is, which calls fail or never finish, which communicators live.
//
// The double has libnccl's symbols and NVIDIA's own nccl.h. Ranks may be threads of one process, processes of one machine,
// or a mix. What a real NCCL answers with a hang it diagnoses: calls that differ, ranks that do not come (by number), sizes
// that do not fit, two communicators used in different orders, a stream of another device, a buffer outside its
// allocation, one device twice. It cannot show what depends on time, on the network or on multiprocessors.
#pragma once

#include <nccl.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace takt::emulated {

struct NcclSettings {
  int watchdog_ms = 20000;  // for peers; then they are named, and the communicator fails on all ranks
  bool forbids_shared_device = true;  // two ranks of a process on one device: as NCCL does
  bool goes_through_chunks = false;   // threads exchange through shared memory too, as processes must
};
NcclSettings nccl_settings();
// Call while nothing is queued.
void configure_nccl(const NcclSettings& settings);

// What happens to a call that a rank makes on a communicator.
struct NcclFault {
  // kFails: the call returns `code`. kBreaks: it returns success, and when it is run the communicator gets `code` as its
  // asynchronous error instead. kNeverFinishes: when it is run it stays until the communicator is aborted.
  enum class How { kFails, kBreaks, kNeverFinishes };

  std::string call;    // "ncclAllReduce"
  int device = -1;     // whose rank makes it; -1: any
  uint64_t after = 0;  // calls of that name that go well before
  How how = How::kFails;
  ncclResult_t code = ncclSystemError;
};
void inject_nccl(const NcclFault& fault);

// Forgets faults, takes the settings back to the defaults.
void reset_nccl();

// A live communicator of this process.
struct NcclFacts {
  std::string name;  // config.commName; else of the unique id
  int rank = 0, num_ranks = 0, device = 0;
  int num_ids = 1;
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  std::size_t num_registered = 0;  // by ncclCommRegister
  std::size_t num_windows = 0;     // by ncclCommWindowRegister
  uint64_t num_operations = 0;     // queued so far
};
std::vector<NcclFacts> live_communicators();

}  // namespace takt::emulated
