// Sends and receives of one group call: all are under way at once, those of one pair and direction in their order.
//
// A box carries one message at a time. Among threads the sender leaves a pointer and waits until the box is empty again;
// among processes it leaves piece after piece.
#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/emulated/nccl_comm.h"

namespace takt::emulated {
namespace {

struct Passage {
  Message message;
  std::size_t num_done = 0;  // bytes
  bool is_posted = false;    // a pointer is in the box
  bool is_over = false;
};

class Exchange {
 public:
  Exchange(Comm& comm, const std::vector<Message>& messages) : comm_(comm) {
    for (const Message& message : messages) passages_.push_back({message});
  }

  bool run() {
    const WaitForPeers waiting;
    double moved_s = now_s();
    while (true) {
      const uint32_t bell = comm_.slot().bell;
      bool moved = false;
      if (!step(moved)) return false;
      if (is_over()) return true;
      if (moved) moved_s = now_s();
      if (!moved && !comm_.sleep(comm_.slot().bell, bell, moved_s, unfinished())) return false;
    }
  }

 private:
  bool is_over() const {
    return std::all_of(passages_.begin(), passages_.end(),
                       [](const Passage& passage) { return passage.is_over; });
  }

  // One look at every message whose turn it is. False: sizes do not fit.
  bool step(bool& moved) {
    std::set<std::pair<bool, int>> busy;
    for (Passage& passage : passages_) {
      if (passage.is_over) continue;
      if (!busy.insert({passage.message.is_send, passage.message.peer}).second) continue;
      if (passage.message.is_send)
        moved = send(passage) || moved;
      else if (!receive(passage, moved))
        return false;
    }
    return true;
  }

  bool send(Passage& passage) {
    const Message& message = passage.message;
    Box& box = comm_.region().box(comm_.rank(), message.peer);
    if (box.is_full != 0) return false;
    box.edge.acquire();
    if (passage.is_posted) {
      passage.is_over = true;
      return true;
    }
    const std::size_t left = message.num_bytes - passage.num_done;
    const std::size_t num = comm_.is_among_threads() ? left : std::min(left, comm_.region().box_bytes());
    box.total_bytes = message.num_bytes;
    box.num_bytes = static_cast<uint32_t>(num);
    box.data = message.data;
    if (!comm_.is_among_threads())
      std::memcpy(comm_.region().box_data(comm_.rank(), message.peer), message.data + passage.num_done, num);
    passage.num_done += num;
    passage.is_posted = passage.num_done == message.num_bytes;
    box.edge.release();
    box.is_full = 1;
    ring(message.peer);
    return true;
  }

  bool receive(Passage& passage, bool& moved) {
    const Message& message = passage.message;
    Box& box = comm_.region().box(message.peer, comm_.rank());
    if (box.is_full == 0) return true;
    box.edge.acquire();
    if (box.total_bytes != message.num_bytes) {
      comm_.fail(ncclInvalidUsage, comm_.name() + ": rank " + std::to_string(comm_.rank()) + " receives " +
                                       std::to_string(message.num_bytes) + " bytes from rank " +
                                       std::to_string(message.peer) + ", which sends " +
                                       std::to_string(box.total_bytes));
      return false;
    }
    const std::size_t num = comm_.is_among_threads() ? message.num_bytes : box.num_bytes;
    const void* const from =
        comm_.is_among_threads() ? box.data : comm_.region().box_data(message.peer, comm_.rank());
    if (num > 0) std::memcpy(message.data + passage.num_done, from, num);
    passage.num_done += num;
    passage.is_over = passage.num_done == message.num_bytes;
    box.edge.release();
    box.is_full = 0;
    ring(message.peer);
    moved = true;
    return true;
  }

  void ring(int peer) {
    std::atomic<uint32_t>& bell = comm_.region().slot(peer).bell;
    bell.fetch_add(1);
    futex_wake(bell, INT_MAX, true);
  }

  std::string unfinished() const {
    std::string text = "unfinished:";
    for (const Passage& passage : passages_)
      if (!passage.is_over && text.size() < 200)
        text +=
            (passage.message.is_send ? " send to " : " receive from ") + std::to_string(passage.message.peer);
    return text;
  }

  Comm& comm_;
  std::vector<Passage> passages_;
};

}  // namespace

bool run_messages(Comm& comm, const Work& work) {
  return Exchange(comm, work.messages).run();
}

}  // namespace takt::emulated
