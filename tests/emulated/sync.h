// Locks of the emulated device that ThreadSanitizer does not see, and the happens-before edges that it shall see.
//
// A pthread mutex inside the double would order every two calls that take it, so that ThreadSanitizer missed each race
// that the lock happens to hide; a real device orders nothing of the kind. So the double locks with futexes, its
// orchestration is compiled without instrumentation (CMakeLists.txt), and it announces exactly the edges that CUDA
// promises: call -> operation, record -> wait, record -> host, rendezvous of a collective.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <ctime>

#if defined(TAKT_EMULATED_TSAN)
extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_read_range(void* address, unsigned long num_bytes);
void __tsan_write_range(void* address, unsigned long num_bytes);
}
#endif

namespace takt::emulated {

// Sleeps while `word` is `seen`, at most `timeout_us` (-1: for ever). False when the time ran out. `shared`: the word
// lies in memory that processes share.
inline bool futex_wait(std::atomic<uint32_t>& word, uint32_t seen, long timeout_us = -1,
                       bool shared = false) {
  const timespec timeout{timeout_us / 1000000, timeout_us % 1000000 * 1000};
  const long result = syscall(SYS_futex, &word, shared ? FUTEX_WAIT : FUTEX_WAIT_PRIVATE, seen,
                              timeout_us < 0 ? nullptr : &timeout, nullptr, 0);
  return !(result < 0 && errno == ETIMEDOUT);
}

inline void futex_wake(std::atomic<uint32_t>& word, int num_waiters = INT_MAX, bool shared = false) {
  syscall(SYS_futex, &word, shared ? FUTEX_WAKE : FUTEX_WAKE_PRIVATE, num_waiters, nullptr, nullptr, 0);
}

// 0 free, 1 held, 2 held and someone sleeps (Drepper, Futexes Are Tricky, the third mutex).
class Mutex {
 public:
  void lock() {
    uint32_t state = 0;
    if (word_.compare_exchange_strong(state, 1)) return;
    if (state != 2) state = word_.exchange(2);
    while (state != 0) {
      futex_wait(word_, 2);
      state = word_.exchange(2);
    }
  }
  bool try_lock() {
    uint32_t state = 0;
    return word_.compare_exchange_strong(state, 1);
  }
  void unlock() {
    if (word_.exchange(0) == 2) futex_wake(word_, 1);
  }

 private:
  std::atomic<uint32_t> word_{0};
};

class Lock {
 public:
  explicit Lock(Mutex& mutex) : mutex_(mutex) { mutex_.lock(); }
  ~Lock() { mutex_.unlock(); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  Mutex& mutex_;
};

// A counter of "something changed": read it, look at the state, sleep until it moved. Never misses a change.
class Generation {
 public:
  uint32_t now() const { return word_.load(); }
  void advance() {
    word_.fetch_add(1);
    futex_wake(word_);
  }
  // False when `timeout_us` passed without a change.
  bool wait(uint32_t seen, long timeout_us = -1) { return futex_wait(word_, seen, timeout_us); }

 private:
  std::atomic<uint32_t> word_{0};
};

// An address that carries one happens-before edge: what was done before release() is seen after acquire().
// Nothing happens outside a ThreadSanitizer build.
class Edge {
 public:
#if defined(TAKT_EMULATED_TSAN)
  void acquire() {
    __tsan_acquire(&token_);
  }
  void release() {
    __tsan_release(&token_);
  }
#else
  void acquire() {}
  void release() {}
#endif

 private:
  [[maybe_unused]] char token_ = 0;
};

// Tells ThreadSanitizer of an access that uninstrumented code makes (a copy, a collective).
inline void announce_read([[maybe_unused]] const void* pointer, [[maybe_unused]] std::size_t num_bytes) {
#if defined(TAKT_EMULATED_TSAN)
  __tsan_read_range(const_cast<void*>(pointer), num_bytes);
#endif
}
inline void announce_write([[maybe_unused]] void* pointer, [[maybe_unused]] std::size_t num_bytes) {
#if defined(TAKT_EMULATED_TSAN)
  __tsan_write_range(pointer, num_bytes);
#endif
}

}  // namespace takt::emulated
