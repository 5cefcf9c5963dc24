// Comm: one rank's part of an emulated communicator.
#pragma once

#include <nccl.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/emulated/nccl_control.h"
#include "tests/emulated/nccl_region.h"
#include "tests/emulated/stream_queue.h"
#include "tests/emulated/sync.h"

namespace takt::emulated {

// A send or a receive.
struct Message {
  bool is_send = false;
  std::byte* data = nullptr;
  std::size_t num_bytes = 0;
  int peer = 0;
};

// An operation as it was called; the same at every launch of a graph.
struct Work {
  CallRecord call;
  const void* send = nullptr;
  void* receive = nullptr;
  std::vector<Message> messages;  // of Kind::kMessages
  std::optional<NcclFault> fault;
};

struct Batch;

class Comm : public std::enable_shared_from_this<Comm> {
 public:
  Comm(const NcclFacts& facts, std::string region_name);
  ~Comm();

  NcclFacts facts() const;
  const std::string& name() const { return facts_.name; }
  int rank() const { return facts_.rank; }
  int num_ranks() const { return facts_.num_ranks; }
  int device() const { return facts_.device; }
  bool blocks() const { return facts_.config.blocking != 0; }
  bool is_among_threads() const { return is_among_threads_; }
  Region& region() { return *region_; }
  Slot& slot() { return region_->slot(facts_.rank); }

  // ---- Calls of the host: they return at once and go on in a thread of their own, if the communicator does not block.
  ncclResult_t start(const std::function<ncclResult_t()>& body);
  ncclResult_t init(uint64_t hash_of_ids);
  // Null: this rank is in no group.
  ncclResult_t split(int color, int key, const ncclConfig_t& config, std::shared_ptr<Comm>& out);
  ncclResult_t finalize();
  ncclResult_t register_buffer(void* buffer, std::size_t num_bytes, bool is_window, void** handle);
  ncclResult_t deregister(void* handle, bool is_window);
  void begin_abort();
  void end_abort();  // once all that are aborted together have begun

  ncclResult_t state();  // asynchronous error
  bool has_failed() const;
  bool is_finalized() const { return is_finalized_; }

  // ---- Work. ----
  ncclResult_t queue(cudaStream_t stream, std::shared_ptr<const Work> work);
  void set_late(std::shared_ptr<Batch> batch);

  // ---- For those who run the work: false means that it cannot go on. ----
  bool meet(Meeting& meeting);
  // Sleeps until `word` is no longer `seen`, or a while.
  bool sleep(std::atomic<uint32_t>& word, uint32_t seen, double waited_since_s, const std::string& waits_for);
  // The same for all ranks from now on, with words.
  void fail(ncclResult_t code, const std::string& message);
  std::string absent_ranks() const;

 private:
  struct Queued {
    Ticket ticket;
    std::shared_ptr<const Work> work;
  };

  Run prepare(const std::shared_ptr<const Work>& work, const Ticket& ticket);
  void run(const Work& work, uint64_t sequence);
  bool is_turn_of(uint64_t sequence);
  void execute(const Work& work, uint64_t sequence);
  bool stay_for_ever();
  void demand_peers(const Work& work, uint64_t sequence);
  void demand_up_to(uint64_t sequence);
  void demand_messages_with(int peer);
  bool is_wanted(const Work& work, uint64_t sequence);
  ncclResult_t why_not();
  bool settle_on_host(const char* what, uint64_t agreed);
  void wait_for_own_work();
  std::string whereabouts(int rank) const;

  NcclFacts facts_;
  std::string region_name_;
  std::shared_ptr<Region> region_;
  bool is_among_threads_ = false;
  bool is_finalized_ = false;
  uintptr_t num_handles_ = 0;
  int num_splits_ = 0;
  std::thread starter_;
  std::map<void*, std::size_t> registered_, windows_;

  std::atomic<int> state_{ncclSuccess};
  std::atomic<bool> is_aborted_{false};

  mutable Mutex mutex_;  // of what follows
  uint64_t num_issued_ = 0;
  std::map<uint64_t, Queued> queued_;  // not yet finished, by sequence
  uint64_t wanted_ = 0;                // by peers, up to this operation
  std::vector<bool> wanted_by_;        // by peers that wait for messages
  std::string current_;                // the operation that runs
  std::shared_ptr<Batch> late_;
  std::atomic<uint32_t> num_finished_{0};
};

// Runs `work` among ranks that have all come; false: it was ended. Among threads peers' buffers are read in place, among
// processes through chunks.
bool run_collective(Comm& comm, const Work& work, uint64_t sequence);
bool run_messages(Comm& comm, const Work& work);

// What one ncclGroupEnd launches. A communicator that does not block launches when it is next asked for its state, by the
// thread that made the calls: whoever does not ask sees his stream run ahead.
struct Batch {
  struct Call {
    std::shared_ptr<Comm> comm;
    cudaStream_t stream = nullptr;
    Work work;
  };
  std::vector<Call> calls;
  std::thread::id caller;
};
ncclResult_t launch(Batch& batch);

// Whether the calling thread runs an operation of a communicator, and not a call of the host.
bool is_on_stream();

// Communicators of this process.
std::vector<std::shared_ptr<Comm>> all_comms();
double now_s();

}  // namespace takt::emulated
