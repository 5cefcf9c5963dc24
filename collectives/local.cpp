// A call on a group of threads: every rank posts its signature and buffers, the last to arrive compares the
// signatures, then all read each other's buffers directly and meet again before anyone may go on and reuse
// them. Waiting is on a condition variable, so that many more ranks than cores can run.
#include "collectives/local.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "collectives/group_communicator.h"
#include "collectives/rank_record.h"
#include "collectives/reduce.h"
#include "collectives/registry.h"
#include "core/base/error.h"

namespace takt {
namespace {

class LocalGroup;

// All groups of one run_ranks call, and who can no longer take part.
class LocalWorld {
 public:
  explicit LocalWorld(int num_ranks) : has_left_(static_cast<std::size_t>(num_ranks)) {}

  LocalGroup& add_group(std::vector<int> run_ranks);
  // A rank's body is over. The first exception is kept.
  void leave(int run_rank, std::exception_ptr exception);
  // Throws kPeer if the run has failed or one of `run_ranks` has left, so that `call` can never finish.
  void require_reachable(std::span<const int> run_ranks, const Signature& call) const;
  void rethrow_first() const {
    if (first_exception_) std::rethrow_exception(first_exception_);
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<LocalGroup>> groups_;
  std::exception_ptr first_exception_;
  std::atomic<int> failed_rank_ = -1;
  std::atomic<int> num_left_ = 0;
  std::vector<std::atomic<bool>> has_left_;
};

// What one rank brings to the call it is in.
struct Slot {
  Signature call;
  const void* send = nullptr;
  void* buffer = nullptr;
  // split: what is asked for, and what the last to arrive made of it
  int color = 0;
  LocalGroup* new_group = nullptr;
  int new_rank = 0;
  // send, receive
  bool is_open = false;    // waits for the other side
  bool is_copied = false;  // the other side is done with the buffer
  std::string mismatch;    // found by the other side
};

class LocalGroup {
 public:
  LocalGroup(LocalWorld& world, std::vector<int> run_ranks)
      : world_(world),
        run_ranks_(std::move(run_ranks)),
        slots_(run_ranks_.size()),
        calls_(run_ranks_.size()) {}

  std::span<const int> run_ranks() const { return run_ranks_; }
  Slot& slot(int rank) { return slots_[static_cast<std::size_t>(rank)]; }
  std::span<const Slot> slots() const { return slots_; }

  // Returns once every rank has posted the same call; throws kPeer on every rank if they differ.
  void meet(int rank, const Signature& call, const void* send, void* buffer, int color = 0);
  // Returns once every rank is done with the others' buffers.
  void part();
  // One side of a message. Returns once the data is in the receiver's buffer.
  void exchange(int rank, const Signature& call, const void* send, void* buffer);
  void wake_all();

 private:
  void let_all_go();
  void compare_calls();
  void make_groups();
  void require_peer(Slot& mine);
  void take_message(Slot& theirs, const Slot& mine, std::unique_lock<std::mutex>& lock);

  LocalWorld& world_;
  std::vector<int> run_ranks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Slot> slots_;
  std::vector<Signature> calls_;  // scratch of compare_calls
  std::string mismatch_;          // of the call that all last met for; empty if all was well
  std::size_t num_arrived_ = 0;
  std::uint64_t generation_ = 0;
};

LocalGroup& LocalWorld::add_group(std::vector<int> run_ranks) {
  const std::lock_guard lock(mutex_);
  groups_.push_back(std::make_unique<LocalGroup>(*this, std::move(run_ranks)));
  return *groups_.back();
}

// The flags are set before any group is woken, and a waiter looks at them before it sleeps: nobody misses
// them. Groups are woken outside our lock, because a group may hold its own lock when it adds a group here.
void LocalWorld::leave(int run_rank, std::exception_ptr exception) {
  std::vector<LocalGroup*> groups;
  {
    const std::lock_guard lock(mutex_);
    if (exception && !first_exception_) {
      first_exception_ = exception;
      failed_rank_ = run_rank;
    }
    has_left_[static_cast<std::size_t>(run_rank)] = true;
    ++num_left_;
    for (const auto& group : groups_) groups.push_back(group.get());
  }
  for (LocalGroup* group : groups) {
    const std::span<const int> ranks = group->run_ranks();
    if (exception || std::find(ranks.begin(), ranks.end(), run_rank) != ranks.end()) group->wake_all();
  }
}

void LocalWorld::require_reachable(std::span<const int> run_ranks, const Signature& call) const {
  const int failed = failed_rank_;
  if (failed >= 0)
    fail(Fault::kPeer, "rank ", failed, " failed while rank ", call.run_rank, " was in ", to_string(call));
  if (num_left_ == 0) return;
  for (const int rank : run_ranks)
    if (has_left_[static_cast<std::size_t>(rank)])
      fail(Fault::kPeer, "rank ", rank, " has returned, but rank ", call.run_rank, " waits for it in ",
           to_string(call), "\n  all ranks of a group must make the same calls in the same order");
}

void LocalGroup::wake_all() {
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

// The last to arrive compares the calls while the others sleep. A rank that gives up takes its arrival back,
// so that nobody goes on to use its buffers.
void LocalGroup::meet(int rank, const Signature& call, const void* send, void* buffer, int color) {
  std::unique_lock lock(mutex_);
  Slot& mine = slot(rank);
  mine.call = call;
  mine.send = send;
  mine.buffer = buffer;
  mine.color = color;
  const std::uint64_t generation = generation_;
  if (++num_arrived_ == slots_.size()) {
    compare_calls();
    let_all_go();
  }
  while (generation_ == generation) {
    try {
      // A rank that has left cannot have arrived here: it would still be waiting too.
      world_.require_reachable(run_ranks_, call);
    } catch (...) {
      --num_arrived_;
      throw;
    }
    changed_.wait(lock);
  }
  if (!mismatch_.empty()) fail(Fault::kPeer, mismatch_);
}

// Never gives up: all ranks have met, so all will come here, and until then they may be reading our buffers.
void LocalGroup::part() {
  std::unique_lock lock(mutex_);
  const std::uint64_t generation = generation_;
  if (++num_arrived_ == slots_.size()) let_all_go();
  changed_.wait(lock, [&] { return generation_ != generation; });
}

void LocalGroup::let_all_go() {
  num_arrived_ = 0;
  ++generation_;
  changed_.notify_all();
}

void LocalGroup::compare_calls() {
  mismatch_.clear();
  for (std::size_t i = 0; i < slots_.size(); ++i) calls_[i] = slots_[i].call;
  try {
    require_same_calls(calls_);
    if (calls_[0].operation == Operation::kSplit) make_groups();
  } catch (const Error& error) {
    mismatch_ = error.what();
  }
}

void LocalGroup::make_groups() {
  std::map<int, std::vector<std::size_t>> members;
  for (std::size_t i = 0; i < slots_.size(); ++i) members[slots_[i].color].push_back(i);
  for (const auto& [color, ranks] : members) {
    std::vector<int> run_ranks;
    for (const std::size_t rank : ranks) run_ranks.push_back(run_ranks_[rank]);
    LocalGroup& group = world_.add_group(std::move(run_ranks));
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      slots_[ranks[i]].new_group = &group;
      slots_[ranks[i]].new_rank = static_cast<int>(i);
    }
  }
}

// Both sides' threads are here: the other one sleeps until its data is copied.
void LocalGroup::take_message(Slot& theirs, const Slot& mine, std::unique_lock<std::mutex>& lock) {
  theirs.is_open = false;
  if (!same_message(theirs.call, mine.call)) {
    theirs.mismatch = mismatch_text(theirs.call, mine.call);
  } else {
    lock.unlock();
    const bool i_send = mine.call.operation == Operation::kSend;
    const Slot& from = i_send ? mine : theirs;
    const Slot& to = i_send ? theirs : mine;
    if (from.call.num_elements > 0) std::memcpy(to.buffer, from.send, from.call.num_bytes());
    lock.lock();
  }
  theirs.is_copied = true;
  changed_.notify_all();
}

// A rank that gives up takes its message back, so that nobody uses its buffer.
void LocalGroup::require_peer(Slot& mine) {
  try {
    const auto peer = static_cast<std::size_t>(mine.call.peer);
    world_.require_reachable(std::span<const int>(run_ranks_).subspan(peer, 1), mine.call);
  } catch (...) {
    mine.is_open = false;
    throw;
  }
}

void LocalGroup::exchange(int rank, const Signature& call, const void* send, void* buffer) {
  std::unique_lock lock(mutex_);
  Slot& mine = slot(rank);
  mine.call = call;
  mine.send = send;
  mine.buffer = buffer;
  mine.mismatch.clear();
  Slot& theirs = slot(call.peer);
  if (theirs.is_open && theirs.call.peer == rank) {
    take_message(theirs, mine, lock);
    if (!theirs.mismatch.empty()) fail(Fault::kPeer, theirs.mismatch);
    return;
  }
  mine.is_open = true;
  mine.is_copied = false;
  while (!mine.is_copied) {
    // Once the other side has taken the message it reads or writes our buffer: wait for it whatever happens.
    if (mine.is_open) require_peer(mine);
    changed_.wait(lock);
  }
  if (!mine.mismatch.empty()) fail(Fault::kPeer, mine.mismatch);
}

class LocalCommunicator final : public GroupCommunicator {
 public:
  LocalCommunicator(LocalGroup& group, GroupMember member)
      : GroupCommunicator(std::move(member)), group_(group), terms_(static_cast<std::size_t>(size())) {}

  std::string_view backend() const override { return "local"; }

 protected:
  // Each rank reduces its slice of the elements and writes the result to everybody. Nobody else touches that slice.
  void run_all_reduce(void* buffer, const Signature& call) override {
    group_.meet(rank(), call, buffer, buffer);
    require_reducible(call.element_type());
    const Slice mine = slice_of(call.num_elements, rank(), size());
    const std::size_t begin_bytes = mine.begin * call.element_bytes();
    const std::size_t mine_bytes = mine.num_elements() * call.element_bytes();
    std::byte* out = static_cast<std::byte*>(buffer) + begin_bytes;
    if (mine_bytes > 0) {
      reduce_sent(out, begin_bytes, mine.num_elements(), call);
      for (const Slot& slot : group_.slots())
        if (slot.buffer != buffer)
          std::memcpy(static_cast<std::byte*>(slot.buffer) + begin_bytes, out, mine_bytes);
    }
    group_.part();
  }

  void run_reduce_scatter(const void* send, void* receive, const Signature& call) override {
    group_.meet(rank(), call, send, receive);
    require_reducible(call.element_type());
    reduce_sent(receive, part_bytes(rank(), call), call.num_elements, call);
    group_.part();
  }

  void run_all_gather(const void* send, void* receive, const Signature& call) override {
    group_.meet(rank(), call, send, receive);
    for (int from = 0; from < size(); ++from) copy(receive, part_bytes(from, call), from, 0, call);
    group_.part();
  }

  void run_all_to_all(const void* send, void* receive, const Signature& call) override {
    group_.meet(rank(), call, send, receive);
    for (int from = 0; from < size(); ++from)
      copy(receive, part_bytes(from, call), from, part_bytes(rank(), call), call);
    group_.part();
  }

  void run_broadcast(void* buffer, const Signature& call) override {
    group_.meet(rank(), call, buffer, buffer);
    if (rank() != call.peer) copy(buffer, 0, call.peer, 0, call);
    group_.part();
  }

  void run_send(const void* buffer, const Signature& call) override {
    group_.exchange(rank(), call, buffer, nullptr);
  }
  void run_receive(void* buffer, const Signature& call) override {
    group_.exchange(rank(), call, nullptr, buffer);
  }
  void run_barrier(const Signature& call) override { group_.meet(rank(), call, nullptr, nullptr); }

  std::unique_ptr<Communicator> run_split(int color, std::string_view name, const Signature& call) override {
    group_.meet(rank(), call, nullptr, nullptr, color);
    const Slot& mine = group_.slot(rank());
    LocalGroup& group = *mine.new_group;
    return std::make_unique<LocalCommunicator>(
        group, GroupMember{.group = std::string(name),
                           .rank = mine.new_rank,
                           .num_ranks = static_cast<int>(group.slots().size()),
                           .run_rank = member().run_rank,
                           .log = member().log});
  }

 private:
  static std::size_t part_bytes(int rank, const Signature& call) {
    return static_cast<std::size_t>(rank) * call.num_bytes();
  }

  // Copies one part of what rank `from` sends.
  void copy(void* out, std::size_t out_bytes, int from, std::size_t from_bytes, const Signature& call) const {
    if (call.num_elements == 0) return;
    const void* sent = group_.slots()[static_cast<std::size_t>(from)].send;
    std::memcpy(static_cast<std::byte*>(out) + out_bytes, static_cast<const std::byte*>(sent) + from_bytes,
                call.num_bytes());
  }

  // Reduces `num_elements` of what all ranks send, from offset `begin_bytes`.
  void reduce_sent(void* out, std::size_t begin_bytes, std::size_t num_elements, const Signature& call) {
    if (num_elements == 0) return;
    for (std::size_t i = 0; i < terms_.size(); ++i)
      terms_[i].data = static_cast<const std::byte*>(group_.slots()[i].send) + begin_bytes;
    reduce_in_tree_order(out, terms_, num_elements, call.element_type(), call.reduction());
  }

  LocalGroup& group_;
  std::vector<ReduceTerm> terms_;  // scratch of reduce_sent
};

void run_rank(LocalWorld& world, LocalGroup& group, int rank, const std::function<void(Communicator&)>& body,
              HostBoard* board) {
  std::exception_ptr exception;
  try {
    CallLog log;
    if (board != nullptr) log.show_in(board->rank(rank).open(rank));
    LocalCommunicator comm(group, {.group = "world",
                                   .rank = rank,
                                   .num_ranks = static_cast<int>(group.slots().size()),
                                   .run_rank = rank,
                                   .log = &log});
    body(comm);
  } catch (...) {
    exception = std::current_exception();
  }
  if (board != nullptr) board->rank(rank).close();
  world.leave(rank, exception);
}

}  // namespace

void run_ranks(int num_ranks, const std::function<void(Communicator&)>& body, HostBoard* board) {
  TAKT_REQUIRE(num_ranks >= 1, "run_ranks: number of ranks is ", num_ranks, ", wanted 1 or more");
  TAKT_REQUIRE(board == nullptr || board->num_ranks() == num_ranks, "run_ranks: a board of other ranks");
  LocalWorld world(num_ranks);
  std::vector<int> ranks(static_cast<std::size_t>(num_ranks));
  for (int rank = 0; rank < num_ranks; ++rank) ranks[static_cast<std::size_t>(rank)] = rank;
  LocalGroup& group = world.add_group(ranks);
  {
    std::vector<std::jthread> threads;  // joined at the end of this scope
    threads.reserve(ranks.size());
    for (const int rank : ranks) {
      try {
        threads.emplace_back([&, rank] { run_rank(world, group, rank, body, board); });
      } catch (...) {  // no more threads: wake those that wait for this rank
        world.leave(rank, std::current_exception());
        break;
      }
    }
  }
  world.rethrow_first();
}

std::unique_ptr<Communicator> make_local(const BackendRanks& ranks) {
  TAKT_REQUIRE(ranks.control.backend() == "local",
               "collectives: backend 'local' is for threads of one process, ", "these ranks meet through ",
               ranks.control.backend());
  return ranks.control.split(0, "local");
}

}  // namespace takt
