// Hashes cover what same_call and same_message compare and nothing else: who calls, and the side of a message, differ
// between ranks that agree.
#include "collectives/call_digest.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/base/error.h"

namespace takt {
namespace {

// Mixes `value` into `hash`; the order counts. Constants of splitmix64.
std::uint64_t mixed(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) + 0x9e3779b97f4a7c15u;
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9u;
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebu;
  return hash ^ (hash >> 31);
}

std::uint64_t mixed_data(std::uint64_t hash, const Signature& call) {
  for (const std::uint64_t value :
       {call.sequence, call.num_elements, call.value_hash, std::uint64_t{call.dtype}})
    hash = mixed(hash, value);
  return hash;
}

bool is_message(const Signature& call) {
  return call.operation == Operation::kSend || call.operation == Operation::kReceive;
}

// Every rank's record, in rank order.
template <class Record>
std::vector<Record> gather(Communicator& host, const Record& mine) {
  std::vector<Record> all(static_cast<std::size_t>(host.size()));
  host.all_gather(&mine, all.data(), sizeof(Record), DType::kU8, {.value = "signatures"});
  return all;
}

// Every rank's i-th signature, for all i. A rank that has fewer sends empty ones.
std::vector<std::vector<Signature>> gather_all(Communicator& host, std::span<const Signature> mine,
                                               std::size_t most) {
  std::vector<std::vector<Signature>> all;
  for (std::size_t i = 0; i < most; ++i) all.push_back(gather(host, i < mine.size() ? mine[i] : Signature{}));
  return all;
}

struct Numbers {
  std::uint64_t hash = 0, num_calls = 0, num_messages = 0;
};

// The first calls that differ. `numbers` tells which signatures are there.
[[noreturn]] void fail_calls(const std::vector<std::vector<Signature>>& calls,
                             std::span<const Numbers> numbers) {
  for (std::size_t i = 0; i < calls.size(); ++i) {
    for (std::size_t rank = 0; rank < numbers.size(); ++rank) {
      if (i < numbers[rank].num_calls) continue;
      const auto other =
          std::find_if(numbers.begin(), numbers.end(), [&](const Numbers& of) { return i < of.num_calls; });
      const Signature& made = calls[i][static_cast<std::size_t>(other - numbers.begin())];
      fail(Fault::kPeer, "group ", made.group.data(), ": its rank ", rank, " made ", numbers[rank].num_calls,
           " calls since they were last compared, rank ", made.run_rank, " of the run also made\n  ",
           to_string(made), "\n  all ranks of a group must make the same calls in the same order");
    }
    require_same_calls(calls[i]);
  }
  fail(Fault::kBug, "signatures: the hashes of calls differ, but the calls do not");
}

// The sender's side first: the same text on both.
[[noreturn]] void fail_message(const Signature& a, const Signature& b) {
  const bool a_first = a.operation == b.operation ? a.run_rank < b.run_rank : a.operation == Operation::kSend;
  fail(Fault::kPeer, a_first ? mismatch_text(a, b) : mismatch_text(b, a));
}

// What rank `peer` did about the message `mine` of rank `rank`; null: nothing.
const Signature* counterpart(const std::vector<std::vector<Signature>>& messages, const Signature& mine,
                             std::size_t rank) {
  const auto peer = static_cast<std::size_t>(mine.peer);
  const Operation opposite = mine.operation == Operation::kSend ? Operation::kReceive : Operation::kSend;
  for (const std::vector<Signature>& row : messages) {
    const Signature& theirs = row[peer];
    if (theirs.operation == opposite && theirs.peer == static_cast<int>(rank) &&
        theirs.sequence == mine.sequence)
      return &theirs;
  }
  return nullptr;
}

[[noreturn]] void fail_messages(const std::vector<std::vector<Signature>>& messages) {
  for (const std::vector<Signature>& row : messages)
    for (std::size_t rank = 0; rank < row.size(); ++rank) {
      if (!is_message(row[rank])) continue;
      const Signature* theirs = counterpart(messages, row[rank], rank);
      if (theirs == nullptr)
        fail(Fault::kPeer, "group ", row[rank].group.data(), ": rank ", row[rank].run_rank,
             " made a call that its peer has no counterpart for\n  ", to_string(row[rank]));
      if (!same_message(row[rank], *theirs)) fail_message(row[rank], *theirs);
    }
  fail(Fault::kBug, "signatures: the hashes of messages differ, but the messages do not");
}

}  // namespace

void CallDigest::add(const Signature& call) {
  if (is_message(call)) {
    Pair& pair = pairs_[static_cast<std::size_t>(call.peer)];
    std::uint64_t& hash = call.operation == Operation::kSend ? pair.sent : pair.received;
    hash = mixed_data(hash, call);
    messages_.push_back(call);
    return;
  }
  const auto peer = static_cast<std::uint64_t>(call.peer + 1);
  for (const std::uint64_t value :
       {static_cast<std::uint64_t>(call.operation), std::uint64_t{call.reduce_op}, peer})
    hash_ = mixed(hash_, value);
  hash_ = mixed_data(hash_, call);
  calls_.push_back(call);
}

void CallDigest::clear() {
  hash_ = 0;
  calls_.clear();
  messages_.clear();
  std::fill(pairs_.begin(), pairs_.end(), Pair{});
}

void CallDigest::compare(Communicator& host) {
  if (host.size() == 1) return clear();
  const std::vector<Numbers> all = gather(host, Numbers{hash_, calls_.size(), messages_.size()});
  std::uint64_t most_calls = 0, most_messages = 0;
  bool are_same = true;
  for (const Numbers& numbers : all) {
    are_same = are_same && numbers.hash == hash_ && numbers.num_calls == calls_.size();
    most_calls = std::max(most_calls, numbers.num_calls);
    most_messages = std::max(most_messages, numbers.num_messages);
  }
  // Whether all agree is the same answer on every rank: if two differ, each differs from one of them.
  if (!are_same) fail_calls(gather_all(host, calls_, most_calls), all);
  if (most_messages > 0) compare_messages(host);
  clear();
}

void CallDigest::compare_messages(Communicator& host) {
  std::vector<Pair> theirs(pairs_.size());
  host.all_to_all(pairs_.data(), theirs.data(), sizeof(Pair), DType::kU8, {.value = "signatures"});
  struct Answer {
    std::uint64_t num_messages = 0, num_wrong = 0;
  };
  Answer mine{.num_messages = messages_.size()};
  for (std::size_t peer = 0; peer < pairs_.size(); ++peer)
    if (pairs_[peer].sent != theirs[peer].received || pairs_[peer].received != theirs[peer].sent)
      ++mine.num_wrong;
  std::uint64_t most = 0;
  bool any_wrong = false;
  for (const Answer& answer : gather(host, mine)) {
    most = std::max(most, answer.num_messages);
    any_wrong = any_wrong || answer.num_wrong > 0;
  }
  if (any_wrong) fail_messages(gather_all(host, messages_, most));
}

void compare_call(Communicator& host, const Signature& call) {
  require_same_calls(gather(host, call));
}

void compare_message(Communicator& host, const Signature& message) {
  const CallSite at{.value = {message.value.data()}};
  Signature theirs;
  const auto send = [&] { host.send(&message, sizeof(message), DType::kU8, message.peer, at); };
  const auto receive = [&] { host.receive(&theirs, sizeof(theirs), DType::kU8, message.peer, at); };
  message.operation == Operation::kSend ? send() : receive();
  message.operation == Operation::kSend ? receive() : send();
  if (!same_message(message, theirs)) fail_message(message, theirs);
}

}  // namespace takt
