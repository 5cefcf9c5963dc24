// When a queued operation runs: the schedules of control.h.
//
// Lazy: what nobody waits for comes as late as possible. Priority (after Burckhardt et al. 2010, probabilistic concurrency
// testing): of a device's streams the one with the highest priority that can go on does; priorities are drawn anew at
// each wait of the host, so that one run sees several orders. Neither holds an operation for ever, since someone that the
// emulator does not know of (another process) may wait for it.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "tests/emulated/control.h"
#include "tests/emulated/counters.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/stream.h"

namespace takt::emulated {
namespace {

constexpr long kLookAgainUs = 500;
constexpr int kMinNaps = 400;  // who is seen asleep so often in turn waits for another host

uint64_t mixed(uint64_t x) {  // the finaliser of SplitMix64 (Steele et al. 2014)
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

bool is_wanted(const Stream& stream) {
  return stream.num_taken < stream.num_wanted || stream.closing;
}

bool is_open_wait(const Ticket& ticket) {
  return ticket && !ticket->finished();
}

bool sleeps(const Stream& stream) {
  return stream.waits_for_peers && (stream.peers_word == nullptr || *stream.peers_word == stream.peers_seen);
}

// Could this stream do something now, or is it? Looks at the head of the queue and not at flags that the worker sets: it
// may not have woken up yet.
bool is_active(const Stream& stream) {
  if (sleeps(stream) || is_open_wait(stream.blocked_on)) return false;
  if (stream.running) return true;
  return !stream.queue.empty() && is_wanted(stream) && !is_open_wait(stream.queue.front()->wait_for);
}

bool is_outranked(const Stream& stream) {
  return std::any_of(stream.device.streams.begin(), stream.device.streams.end(), [&](const Stream* other) {
    return other != &stream &&
           std::pair(other->rank, other->priority) > std::pair(stream.rank, stream.priority) &&
           is_active(*other);
  });
}

// False, and when to ask again, while the head has not been held for `hold_ms`.
bool held_long_enough(const Stream& stream, double hold_ms, long& wait_us) {
  const double left_ms = hold_ms - (now_ms() - stream.head_since_ms);
  if (left_ms <= 0) return true;
  wait_us = long(left_ms * 1000) + 1;
  return false;
}

// The system's word for what a thread of this process does; 'S' is asleep.
char state_of_thread(int thread) {
  char path[64], text[512] = {};
  std::snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 'X';
  const ssize_t num_bytes = read(file, text, sizeof text - 1);
  close(file);
  const char* name_end = num_bytes > 0 ? std::strrchr(text, ')') : nullptr;
  return name_end != nullptr && name_end[1] == ' ' ? name_end[2] : 'X';
}

// The host has queued what it will: it waits for the device, by asking again or in a call, or for another host.
bool host_rests(Device& device) {
  if (device.num_asked > 1) return true;  // once is a look in passing
  device.num_naps = state_of_thread(device.issuer) == 'R' ? 0 : device.num_naps + 1;
  return device.num_naps > kMinNaps;
}

// Can something go on there before `last`, a stream of another device that comes last? A device that another thread is
// changing: ask again.
bool precedes(Device& device, const Stream& last) {
  if (!device.mutex.try_lock()) return true;
  const bool does =
      !device.streams.empty() &&
      (!host_rests(device) || std::ranges::any_of(device.streams, [&](const Stream* stream) {
        return is_active(*stream) && (stream->rank >= 0 || stream->running ||
                                      (stream->num_taken < last.num_taken && !is_outranked(*stream)));
      }));
  device.mutex.unlock();
  return does;
}

// What comes last waits for all that other devices can still do; among those that come last, for those that have done less.
bool may_come_last(Stream& stream, long& wait_us) {
  wait_us = kLookAgainUs;
  return std::ranges::none_of(
      used_devices(), [&](Device* other) { return other != &stream.device && precedes(*other, stream); });
}

// Under the device's mutex.
void want_everything(Device& device) {
  for (Stream* stream : device.streams) stream->num_wanted = stream->num_queued;
}

void draw_priorities(Device& device) {
  const uint64_t round =
      mixed(settings().seed) + mixed(uint64_t(device.index) << 32 | ++device.num_host_waits);
  for (Stream* stream : device.streams) stream->priority = mixed(round ^ mixed(stream->index));
}

}  // namespace

bool may_take(Stream& stream, long& wait_us) {
  const Settings now = settings();
  if (now.schedule == Schedule::kEager) return true;
  if (!is_wanted(stream)) return held_long_enough(stream, now.hold_ms, wait_us);
  if (now.schedule == Schedule::kLazy) return true;
  if (stream.queue.front()->wait_for) return true;  // waiting is no work, and what it demands may rank higher
  if (is_outranked(stream)) return held_long_enough(stream, now.hold_ms, wait_us);
  if (!some_wait_is_skipped()) return true;
  if (!host_rests(stream.device)) {
    wait_us = kLookAgainUs;
    return false;
  }
  return stream.rank >= 0 || may_come_last(stream, wait_us);
}

void demand(const Ticket& ticket) {
  if (ticket->finished()) return;
  Device& device = ticket->stream->device;
  const bool from_elsewhere = worker_stream() == nullptr || &worker_stream()->device != &device;
  {
    const Lock lock(device.mutex);
    note_question(device);
    if (settings().schedule == Schedule::kPriority && from_elsewhere) want_everything(device);
    Stream& stream = *ticket->stream;
    if (ticket->sequence == 0)
      ticket->wanted = true;
    else
      stream.num_wanted = std::max(stream.num_wanted, ticket->sequence);
  }
  device.changed.advance();
}

void tell_adversaries(Stream& later, Stream& sooner) {
  const Lock lock(later.device.mutex);
  later.rank = 1;
  sooner.rank = -1;
}

void note_issue(Device& device) {
  if (worker_stream() != nullptr) return;
  device.issuer = gettid();
  device.num_asked = device.num_naps = 0;
}

void note_question(Device& device) {
  if (worker_stream() != nullptr || device.issuer != gettid()) return;
  if (++device.num_asked == 2) draw_priorities(device);
}

bool finished(const Ticket& ticket) {
  return ticket->finished();
}

void wait_on_host(const Ticket& ticket) {
  if (!ticket->finished()) {
    demand(ticket);
    demand(ticket);  // twice: it waits, and does not look in passing
    while (!ticket->finished()) futex_wait(ticket->done, 0);
  }
  ticket->edge.acquire();
}

void wait_for_device(Device& device) {
  std::vector<std::shared_ptr<Stream>> streams;
  {
    const Lock lock(device.mutex);
    for (Stream* stream : device.streams)
      if (auto alive = stream->weak_from_this().lock()) streams.push_back(std::move(alive));
  }
  std::vector<Ticket> marks;
  for (const auto& stream : streams)
    if (!stream->closing) marks.push_back(stream->issue_mark());
  for (const Ticket& mark : marks) wait_on_host(mark);
}

WaitForPeers::WaitForPeers(const std::atomic<uint32_t>* word, uint32_t seen) {
  Stream* stream = worker_stream();
  if (stream == nullptr) forbidden("WaitForPeers: not on a worker thread of a stream");
  {
    const Lock lock(stream->device.mutex);
    stream->waits_for_peers = true;
    stream->peers_word = word;
    stream->peers_seen = seen;
  }
  stream->device.changed.advance();
}

WaitForPeers::~WaitForPeers() {
  Stream* stream = worker_stream();
  const Lock lock(stream->device.mutex);
  stream->waits_for_peers = false;
}

}  // namespace takt::emulated
