// NcclCommunicator: one rank in one group of GPUs.
#pragma once

#include <exception>
#include <memory>
#include <string_view>
#include <vector>

#include "collectives/call_digest.h"
#include "collectives/device_communicator.h"
#include "collectives/nccl_rank.h"
#include "collectives/signed_communicator.h"

namespace takt {

void release_device_word(void* word) noexcept;

class NcclCommunicator final : public SignedCommunicator<DeviceCommunicator> {
 public:
  // Over the whole run. host: over the same ranks.
  NcclCommunicator(std::unique_ptr<NcclRank> rank, std::unique_ptr<Communicator> host, CallSigner signer);
  // Split from `parent`, which must be there until it is connected.
  NcclCommunicator(NcclCommunicator& parent, std::unique_ptr<Communicator> host, CallSigner signer,
                   int color);
  ~NcclCommunicator() override;

  std::string_view backend() const override { return "nccl"; }
  std::unique_ptr<Communicator> split(int color, std::string_view name) override;
  void note_progress(const Progress& progress) override { rank_->log().note_progress(progress); }

  void connect() override;
  void launch_together(const std::function<void()>& calls) override { rank_->launch_together(calls); }
  void register_memory(void* memory, std::size_t num_bytes) override;
  std::vector<Signature> take_captured() override { return rank_->take_captured(); }
  void note_launched(std::span<const Signature> calls, StreamHandle stream) override;
  void wait(StreamHandle stream) override;
  void wait_until(const std::function<bool()>& is_done) override;
  void compare_calls() override;
  void require_peers() override { rank_->monitor().require_peers(); }
  void abandon() noexcept override;

  // ---- For NcclRank, when it launches. ----

  // How many calls of NCCL, one behind the other, this call is.
  int num_phases(const Signature& call) const;
  // Gives one of them to NCCL.
  void issue(const NcclCall& call, int phase);

 private:
  cudaStream_t stream_of(const CallSite& at) const;
  void connect_world();
  void connect_part();
  void connect_by_domain();
  void run(const Signature& call, const void* send, void* receive, const CallSite& at) override;
  bool goes_by_domain(const Signature& call) const;
  void issue_by_domain(const NcclCall& call, int phase);
  void issue_alone(const NcclCall& call);

  std::unique_ptr<NcclRank> owned_rank_;  // of the communicator over the whole run, which goes last
  NcclRank* rank_;
  NcclCommunicator* parent_ = nullptr;
  int color_ = 0;
  std::unique_ptr<Communicator> host_;
  CallDigest digest_;
  std::vector<int> domains_;  // by rank of the group
  int num_exceptions_ = std::uncaught_exceptions();

  bool is_connected_ = false;
  NcclConnection connection_;
  Owned<void*, release_device_word> barrier_word_;
  std::unique_ptr<NcclCommunicator> inside_, across_;  // parts of a group that is reduced by domains
};

}  // namespace takt
