// CUDA's device language for a host compiler. Force-included (-include) when a .cu is compiled as C++.
//
// The toolkit's own headers give every type, operator and prototype; this file and the two it includes add what only
// nvcc knows: the built-in variables, barriers, warp operations, shared memory, atomics and intrinsics.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "tests/emulated/bind.h"
#include "tests/emulated/device_runtime.h"

#ifndef __launch_bounds__
#define __launch_bounds__(...)
#endif
#ifndef __restrict__
#define __restrict__ __restrict
#endif

// The threads of a block share an OS thread, therefore its thread-locals. The executor finds and poisons all of them: they
// are the TLS segment of the library that holds the kernels (shared_memory.cpp).
#undef __shared__
#define __shared__ static thread_local

inline constexpr int warpSize = 32;

namespace takt::emulated {

template <class T>
uint64_t to_word(T value) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "warp operations move at most 8 bytes");
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof(value));
  return word;
}

template <class T>
T from_word(uint64_t word) {
  T value;
  std::memcpy(static_cast<void*>(&value), &word, sizeof(value));
  return value;
}

template <class T>
T shuffle(unsigned mask, T value, unsigned source_lane, CallSite site) {
  return from_word<T>(warp_meet(WarpOp::kShuffle, mask, to_word(value), source_lane, site));
}

// Lanes of a segment of `width` lanes that holds the running lane.
inline unsigned first_of_segment(int width) {
  return current_lane & ~(unsigned(width) - 1);
}
inline unsigned last_of_segment(int width) {
  return current_lane | (unsigned(width) - 1);
}

}  // namespace takt::emulated

// The call's place, taken where the kernel's author wrote it.
#define TAKT_EMULATED_SITE takt::emulated::CallSite site = takt::emulated::CallSite::current()

// ---- Barriers ----

inline void __syncthreads(TAKT_EMULATED_SITE) {
  takt::emulated::block_barrier(takt::emulated::Reduction::kNone, false, site);
}
inline int __syncthreads_or(int predicate, TAKT_EMULATED_SITE) {
  return takt::emulated::block_barrier(takt::emulated::Reduction::kOr, predicate != 0, site);
}
inline int __syncthreads_and(int predicate, TAKT_EMULATED_SITE) {
  return takt::emulated::block_barrier(takt::emulated::Reduction::kAnd, predicate != 0, site);
}
inline int __syncthreads_count(int predicate, TAKT_EMULATED_SITE) {
  return takt::emulated::block_barrier(takt::emulated::Reduction::kCount, predicate != 0, site);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, TAKT_EMULATED_SITE) {
  takt::emulated::warp_meet(takt::emulated::WarpOp::kSync, mask, 0, 0, site);
}

// ---- Warp operations ----

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, TAKT_EMULATED_SITE) {
  const unsigned lane = takt::emulated::first_of_segment(width) | (unsigned(source) & (unsigned(width) - 1));
  return takt::emulated::shuffle(mask, value, lane, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, TAKT_EMULATED_SITE) {
  const unsigned lane = takt::emulated::current_lane;
  const bool inside = lane + delta <= takt::emulated::last_of_segment(width);
  return takt::emulated::shuffle(mask, value, inside ? lane + delta : lane, site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, TAKT_EMULATED_SITE) {
  const unsigned lane = takt::emulated::current_lane;
  const bool inside = lane >= takt::emulated::first_of_segment(width) + delta;
  return takt::emulated::shuffle(mask, value, inside ? lane - delta : lane, site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, TAKT_EMULATED_SITE) {
  const unsigned lane = takt::emulated::current_lane ^ unsigned(bits);
  const bool inside = lane <= takt::emulated::last_of_segment(width);
  return takt::emulated::shuffle(mask, value, inside ? lane : takt::emulated::current_lane, site);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, TAKT_EMULATED_SITE) {
  return unsigned(takt::emulated::warp_meet(takt::emulated::WarpOp::kBallot, mask, predicate != 0, 0, site));
}
inline int __any_sync(unsigned mask, int predicate, TAKT_EMULATED_SITE) {
  return __ballot_sync(mask, predicate, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, TAKT_EMULATED_SITE) {
  return __ballot_sync(mask, predicate == 0, site) == 0;
}
inline unsigned __activemask() {
  return takt::emulated::active_mask();
}

namespace takt::emulated {

// Every lane of `mask` reads every other's value in turn: slow, and exact.
template <class T, class Combine>
T warp_reduce(unsigned mask, T value, Combine combine, CallSite site) {
  T result = value;
  bool first = true;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    const T other = shuffle(mask, value, lane, site);
    result = first ? other : combine(result, other);
    first = false;
  }
  return result;
}

}  // namespace takt::emulated

template <class T>
T __reduce_add_sync(unsigned mask, T value, TAKT_EMULATED_SITE) {
  return takt::emulated::warp_reduce(
      mask, value, [](T a, T b) { return T(a + b); }, site);
}
template <class T>
T __reduce_min_sync(unsigned mask, T value, TAKT_EMULATED_SITE) {
  return takt::emulated::warp_reduce(
      mask, value, [](T a, T b) { return b < a ? b : a; }, site);
}
template <class T>
T __reduce_max_sync(unsigned mask, T value, TAKT_EMULATED_SITE) {
  return takt::emulated::warp_reduce(
      mask, value, [](T a, T b) { return a < b ? b : a; }, site);
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value, TAKT_EMULATED_SITE) {
  return takt::emulated::warp_reduce(
      mask, value, [](unsigned a, unsigned b) { return a & b; }, site);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value, TAKT_EMULATED_SITE) {
  return takt::emulated::warp_reduce(
      mask, value, [](unsigned a, unsigned b) { return a | b; }, site);
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value, TAKT_EMULATED_SITE) {
  return takt::emulated::warp_reduce(
      mask, value, [](unsigned a, unsigned b) { return a ^ b; }, site);
}

[[noreturn]] inline void __trap(TAKT_EMULATED_SITE) {
  takt::emulated::device_fault("__trap", site);
}

#include "tests/emulated/device_atomics.h"
#include "tests/emulated/device_intrinsics.h"
