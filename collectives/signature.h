// Signature: what one call on a communicator asks for. Ranks compare signatures before they use a result.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "collectives/communicator.h"
#include "core/base/tensor.h"

namespace takt {

enum class Operation : std::uint8_t {
  kAllReduce,
  kAllGather,
  kReduceScatter,
  kAllToAll,
  kBroadcast,
  kSend,
  kReceive,
  kBarrier,
  kSplit
};
std::string_view name_of(Operation operation);

// Plain bytes of a fixed size, so that it lies in shared memory and travels as a message.
struct Signature {
  // Calls of this group so far; for send and receive, messages of this pair so far.
  std::uint64_t sequence = 0;
  std::uint64_t num_elements = 0;  // as passed to the call
  std::uint64_t value_hash = 0;    // of the whole name, of which `value` may hold only the beginning
  std::int32_t peer = -1;          // group rank: a broadcast's root, a send's receiver, a receive's sender
  std::int32_t run_rank = 0;       // who calls, numbered over the whole run; not compared
  Operation operation = Operation::kBarrier;
  std::uint8_t reduce_op = 0;  // a ReduceOp; zero where nothing is reduced
  std::uint8_t dtype = 0;      // a DType; zero where nothing is moved
  std::array<std::uint8_t, 5> unused = {};
  std::array<char, 24> group = {};  // ends in a zero; cut if longer
  std::array<char, 64> value = {};  // ends in a zero; cut if longer

  DType element_type() const { return static_cast<DType>(dtype); }
  ReduceOp reduction() const { return static_cast<ReduceOp>(reduce_op); }
  std::size_t element_bytes() const { return takt::num_bytes(element_type()); }
  std::size_t num_bytes() const { return static_cast<std::size_t>(num_elements) * element_bytes(); }
};
static_assert(sizeof(Signature) == 128 && std::is_trivially_copyable_v<Signature>);

void set_group(Signature& call, std::string_view group);
void set_value(Signature& call, std::string_view value);

// "all_reduce sum f32 x 4096 'layers.3.mlp.grad' #18233 in group data[5]"
std::string to_string(const Signature& call);

// Whether two ranks of a group make the same collective call.
bool same_call(const Signature& a, const Signature& b);
// Whether one side sends what the other receives.
bool same_message(const Signature& a, const Signature& b);

// The text of the error that every rank throws when two ranks' calls do not fit.
std::string mismatch_text(const Signature& a, const Signature& b);
// calls: a group's signatures in rank order. Throws kPeer, with the same text on every rank, unless all are the same.
void require_same_calls(std::span<const Signature> calls);

class RankRecord;

// The last calls of one rank over all its groups, for hang reports. Never allocates while calls are noted.
// Another thread may read while the rank is blocked in a call.
class CallLog {
 public:
  static constexpr std::size_t kCapacity = 64;

  // From now on calls are also noted in `record`, which a watchdog sees. It outlives the log.
  void show_in(RankRecord& record) { record_ = &record; }
  // See Communicator::note_progress. `waits`: for other ranks, as in a call.
  void note_progress(const Progress& progress, bool waits = false);

  void note_started(const Signature& call);
  void note_finished();

  std::vector<Signature> recent() const;     // oldest first, the pending call included
  std::optional<Signature> pending() const;  // the call the rank is in; after an error, the call that failed
  std::uint64_t num_calls() const;           // started since the log was made

 private:
  mutable std::mutex mutex_;
  std::array<Signature, kCapacity> calls_ = {};  // call i is at i % kCapacity
  std::uint64_t num_started_ = 0;
  bool is_pending_ = false;
  RankRecord* record_ = nullptr;     // null: nobody watches
  std::array<char, 63> doing_ = {};  // as last shown
};

}  // namespace takt
