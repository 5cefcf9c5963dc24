// Atomics and fences of the device language. Included by device_language.h only.
//
// Relaxed, as CUDA's are: ThreadSanitizer takes no ordering from them that a device would not give.
#pragma once

#include <atomic>
#include <type_traits>

namespace takt::emulated {

// The integer that has T's size: compare-and-swap wants comparable bits (NaN != NaN, and bf16 has no atomic add).
template <class T>
using Bits =
    std::conditional_t<sizeof(T) == 2, uint16_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>;

// *address = change(*address); returns what was there.
template <class T, class Change>
T atomic_change(T* address, Change change) {
  std::atomic_ref<Bits<T>> word(*reinterpret_cast<Bits<T>*>(address));
  Bits<T> seen = word.load(std::memory_order_relaxed);
  for (;;) {
    T old;
    std::memcpy(static_cast<void*>(&old), &seen, sizeof(old));
    const T next = change(old);
    Bits<T> wanted;
    std::memcpy(&wanted, &next, sizeof(wanted));
    if (word.compare_exchange_weak(seen, wanted, std::memory_order_relaxed)) return old;
  }
}

// The second argument converts to the first's type, as in a call of an ordinary function.
template <class T>
struct Same {
  using Type = T;
};
template <class T>
using SameAs = typename Same<T>::Type;

}  // namespace takt::emulated

template <class T>
T atomicAdd(T* address, takt::emulated::SameAs<T> value) {
  return takt::emulated::atomic_change(address, [=](T old) { return T(old + value); });
}
template <class T>
T atomicSub(T* address, takt::emulated::SameAs<T> value) {
  return takt::emulated::atomic_change(address, [=](T old) { return T(old - value); });
}
template <class T>
T atomicMax(T* address, takt::emulated::SameAs<T> value) {
  return takt::emulated::atomic_change(address, [=](T old) { return old < value ? value : old; });
}
template <class T>
T atomicMin(T* address, takt::emulated::SameAs<T> value) {
  return takt::emulated::atomic_change(address, [=](T old) { return value < old ? value : old; });
}
template <class T>
T atomicExch(T* address, takt::emulated::SameAs<T> value) {
  return takt::emulated::atomic_change(address, [=](T) { return value; });
}
template <class T>
T atomicAnd(T* address, takt::emulated::SameAs<T> value) {
  return takt::emulated::atomic_change(address, [=](T old) { return T(old & value); });
}
template <class T>
T atomicOr(T* address, takt::emulated::SameAs<T> value) {
  return takt::emulated::atomic_change(address, [=](T old) { return T(old | value); });
}
template <class T>
T atomicXor(T* address, takt::emulated::SameAs<T> value) {
  return takt::emulated::atomic_change(address, [=](T old) { return T(old ^ value); });
}
// Counts up to `limit`, then starts at 0 again.
inline unsigned atomicInc(unsigned* address, unsigned limit) {
  return takt::emulated::atomic_change(address, [=](unsigned old) { return old >= limit ? 0u : old + 1; });
}
template <class T>
T atomicCAS(T* address, takt::emulated::SameAs<T> expected, takt::emulated::SameAs<T> value) {
  return takt::emulated::atomic_change(address, [=](T old) { return old == expected ? value : old; });
}

inline void __threadfence() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
}
inline void __threadfence_block() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
}
inline void __threadfence_system() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
}
