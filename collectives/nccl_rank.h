// NcclRank: what all communicators of one rank share: its settings, its stream, the memory that NCCL knows, and calls that
// wait to be launched together.
#pragma once

#include <nccl.h>

#include <cstddef>
#include <functional>
#include <string_view>
#include <utility>
#include <vector>

#include "collectives/nccl_monitor.h"
#include "collectives/nccl_settings.h"
#include "collectives/signature.h"
#include "core/device/cuda/stream.h"

namespace takt {

class NcclCommunicator;

// A call that was signed and not yet given to NCCL.
struct NcclCall {
  NcclCommunicator* group = nullptr;
  Signature signature;
  const void* send = nullptr;
  void* receive = nullptr;
  cudaStream_t stream = nullptr;
};

class NcclRank {
 public:
  NcclRank(const NcclSettings& settings, int run_rank, CallLog& log);

  const NcclSettings& settings() const { return settings_; }
  NcclMonitor& monitor() { return monitor_; }
  CallLog& log() { return log_; }
  cudaStream_t stream() const { return stream_.get(); }  // for calls that name none

  // Launches the call, or keeps it for the launch that it is part of.
  void queue(const NcclCall& call);
  void launch_together(const std::function<void()>& calls);
  // See DeviceCommunicator.
  std::vector<Signature> take_captured() { return std::exchange(captured_, {}); }

  // Makes `connection` by `start`, which gives NCCL a place for the handle. parent: null for the first one of the run.
  void connect(NcclConnection& connection, const NcclConnection* parent,
               const std::function<ncclResult_t(ncclComm_t*)>& start);
  // Waits for the other ranks of the connection, unless this one has failed.
  void disconnect(NcclConnection& connection) noexcept;
  void register_memory(void* memory, std::size_t num_bytes);
  void wait(cudaStream_t stream);
  void wait_until(const std::function<bool()>& is_done);

 private:
  struct Memory {
    void* begin = nullptr;
    std::size_t num_bytes = 0;
  };

  void launch();
  void launch_phase(int phase);
  void track_launched();
  void register_on(NcclConnection& connection, const Memory& memory);
  void deregister(NcclConnection& connection);

  const NcclSettings settings_;
  CallLog& log_;
  CudaStream stream_;
  std::vector<Memory> memory_;
  std::vector<NcclConnection*> connections_;  // that are made, in order
  int depth_ = 0;                             // of launch_together
  std::vector<NcclCall> calls_;               // to be launched
  std::vector<Signature> captured_;           // part of a graph that nobody has asked about
  NcclMonitor monitor_;                       // last: its thread uses nothing of the above but the settings
};

}  // namespace takt
