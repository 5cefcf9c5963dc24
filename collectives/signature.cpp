// Signatures are compared field by field. A value's name counts through its hash, so that long names that
// share their beginning are still told apart while the signature keeps its fixed size.
#include "collectives/signature.h"

#include <algorithm>

#include "collectives/rank_record.h"
#include "core/base/error.h"

namespace takt {
namespace {

// FNV-1a, 64 bits.
std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

template <std::size_t kSize>
void copy_cut(std::array<char, kSize>& out, std::string_view text) {
  out.fill('\0');
  const std::size_t kept = std::min(text.size(), kSize - 1);
  std::copy_n(text.begin(), kept, out.begin());
  if (kept < text.size()) std::fill(out.end() - 4, out.end() - 1, '.');
}

bool moves_data(Operation operation) {
  return operation != Operation::kBarrier && operation != Operation::kSplit;
}

bool reduces(Operation operation) {
  return operation == Operation::kAllReduce || operation == Operation::kReduceScatter;
}

bool same_data(const Signature& a, const Signature& b) {
  return a.sequence == b.sequence && a.num_elements == b.num_elements && a.value_hash == b.value_hash &&
         a.dtype == b.dtype && a.group == b.group;
}

}  // namespace

std::string_view name_of(Operation operation) {
  switch (operation) {
    case Operation::kAllReduce:
      return "all_reduce";
    case Operation::kAllGather:
      return "all_gather";
    case Operation::kReduceScatter:
      return "reduce_scatter";
    case Operation::kAllToAll:
      return "all_to_all";
    case Operation::kBroadcast:
      return "broadcast";
    case Operation::kSend:
      return "send";
    case Operation::kReceive:
      return "receive";
    case Operation::kBarrier:
      return "barrier";
    case Operation::kSplit:
      return "split";
  }
  fail(Fault::kBug, "name_of: unknown operation");
}

void set_group(Signature& call, std::string_view group) {
  copy_cut(call.group, group);
}

void set_value(Signature& call, std::string_view value) {
  copy_cut(call.value, value);
  call.value_hash = hash_of(value);
}

std::string to_string(const Signature& call) {
  std::string text(name_of(call.operation));
  if (reduces(call.operation)) text += concat(" ", name_of(call.reduction()));
  if (moves_data(call.operation)) text += concat(" ", call.element_type(), " x ", call.num_elements);
  if (call.value[0] != '\0') text += concat(" '", call.value.data(), "'");
  text += concat(" #", call.sequence, " in group ", call.group.data());
  if (call.operation == Operation::kSend) text += concat(", to its rank ", call.peer);
  if (call.operation == Operation::kReceive || call.operation == Operation::kBroadcast)
    text += concat(", from its rank ", call.peer);
  return text;
}

bool same_call(const Signature& a, const Signature& b) {
  return a.operation == b.operation && a.reduce_op == b.reduce_op && a.peer == b.peer && same_data(a, b);
}

bool same_message(const Signature& a, const Signature& b) {
  const bool opposite = (a.operation == Operation::kSend && b.operation == Operation::kReceive) ||
                        (a.operation == Operation::kReceive && b.operation == Operation::kSend);
  return opposite && same_data(a, b);
}

std::string mismatch_text(const Signature& a, const Signature& b) {
  return concat(
      "group ", a.group.data(), ": ranks ", a.run_rank, " and ", b.run_rank,
      " do not make the same call\n  rank ", a.run_rank, ": ", to_string(a), "\n  rank ", b.run_rank, ": ",
      to_string(b),
      "\n  all ranks of a group must make the same calls in the same order: do all run the same job and "
      "the same build?");
}

void require_same_calls(std::span<const Signature> calls) {
  for (const Signature& call : calls)
    if (!same_call(calls[0], call)) fail(Fault::kPeer, mismatch_text(calls[0], call));
}

void CallLog::note_started(const Signature& call) {
  if (record_ != nullptr) record_->note_call_started(call);
  const std::lock_guard lock(mutex_);
  calls_[num_started_++ % kCapacity] = call;
  is_pending_ = true;
}

void CallLog::note_finished() {
  if (record_ != nullptr) record_->note_call_finished();
  const std::lock_guard lock(mutex_);
  is_pending_ = false;
}

void CallLog::note_progress(const Progress& progress, bool waits) {
  if (record_ == nullptr) return;
  if (progress.step > 0) record_->note_step(progress.step);
  Activity activity{.waits = waits};
  copy_cut(activity.what, progress.doing);
  if (activity.what == doing_ && !waits) return record_->note_progress();
  doing_ = activity.what;
  record_->note_activity(activity);
}

std::vector<Signature> CallLog::recent() const {
  const std::lock_guard lock(mutex_);
  std::vector<Signature> calls;
  const std::uint64_t num_kept = std::min<std::uint64_t>(num_started_, kCapacity);
  for (std::uint64_t i = num_started_ - num_kept; i < num_started_; ++i)
    calls.push_back(calls_[i % kCapacity]);
  return calls;
}

std::optional<Signature> CallLog::pending() const {
  const std::lock_guard lock(mutex_);
  if (!is_pending_) return std::nullopt;
  return calls_[(num_started_ - 1) % kCapacity];
}

std::uint64_t CallLog::num_calls() const {
  const std::lock_guard lock(mutex_);
  return num_started_;
}

}  // namespace takt
