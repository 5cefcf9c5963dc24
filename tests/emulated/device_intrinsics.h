// Arithmetic of the device language that a host compiler lacks. Included by device_language.h only.
//
// The approximate functions (__expf, ...) are exact here: a kernel's test must allow the error that the device has.
// Nothing is fused that is not asked to be: compare with a device by tolerances.
#pragma once

#include <cassert>
#include <cmath>
#include <cstdio>
#include <ctime>

// <cmath> puts the C library's functions in the global namespace too, except these, which are macros in C.
using std::isfinite;
using std::isinf;
using std::isnan;
using std::signbit;

// CUDA's min and max take mixed types.
template <class A, class B>
requires(std::is_arithmetic_v<A>&& std::is_arithmetic_v<B>) constexpr std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  return T(a) < T(b) ? T(b) : T(a);
}
template <class A, class B>
requires(std::is_arithmetic_v<A>&& std::is_arithmetic_v<B>) constexpr std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  return T(b) < T(a) ? T(b) : T(a);
}

// ---- Bits ----

inline int __float_as_int(float x) {
  return takt::emulated::from_word<int>(takt::emulated::to_word(x));
}
inline unsigned __float_as_uint(float x) {
  return takt::emulated::from_word<unsigned>(takt::emulated::to_word(x));
}
inline float __int_as_float(int x) {
  return takt::emulated::from_word<float>(takt::emulated::to_word(x));
}
inline float __uint_as_float(unsigned x) {
  return takt::emulated::from_word<float>(takt::emulated::to_word(x));
}
inline long long __double_as_longlong(double x) {
  return takt::emulated::from_word<long long>(takt::emulated::to_word(x));
}
inline double __longlong_as_double(long long x) {
  return takt::emulated::from_word<double>(takt::emulated::to_word(x));
}
inline int __popc(unsigned x) {
  return __builtin_popcount(x);
}
inline int __popcll(unsigned long long x) {
  return __builtin_popcountll(x);
}
inline int __clz(int x) {
  return x != 0 ? __builtin_clz(unsigned(x)) : 32;
}
inline int __clzll(long long x) {
  return x != 0 ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64;
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline int __ffsll(long long x) {
  return __builtin_ffsll(x);
}
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (x >> bit & 1) << (31 - bit);
  return reversed;
}
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const uint64_t bytes = uint64_t(high) << 32 | low;
  unsigned result = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned pick = selector >> (4 * i) & 7;
    result |= (unsigned(bytes >> (8 * pick)) & 0xffu) << (8 * i);
  }
  return result;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) >> (shift & 31));
}

// ---- Integers ----

inline unsigned __umulhi(unsigned a, unsigned b) {
  return unsigned(uint64_t(a) * b >> 32);
}
inline int __mulhi(int a, int b) {
  return int(int64_t(a) * b >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>(Wide(a) * b >> 64);
}
inline int __mul24(int a, int b) {
  return a * b;
}
inline unsigned __umul24(unsigned a, unsigned b) {
  return a * b;
}

// ---- float: CUDA's names for what C++ has under others ----

inline float __expf(float x) {
  return std::exp(x);
}
inline float __exp10f(float x) {
  return std::pow(10.0f, x);
}
inline float __logf(float x) {
  return std::log(x);
}
inline float __log2f(float x) {
  return std::log2(x);
}
inline float __log10f(float x) {
  return std::log10(x);
}
inline float __powf(float x, float y) {
  return std::pow(x, y);
}
inline float __sinf(float x) {
  return std::sin(x);
}
inline float __cosf(float x) {
  return std::cos(x);
}
inline float __tanf(float x) {
  return std::tan(x);
}
inline float __tanhf(float x) {
  return std::tanh(x);
}
inline void __sincosf(float x, float* sine, float* cosine) {
  *sine = std::sin(x);
  *cosine = std::cos(x);
}
inline float __fdividef(float a, float b) {
  return a / b;
}
inline float __frcp_rn(float x) {
  return 1.0f / x;
}
inline float __fsqrt_rn(float x) {
  return std::sqrt(x);
}
inline float __frsqrt_rn(float x) {
  return 1.0f / std::sqrt(x);
}
inline float __fadd_rn(float a, float b) {
  return a + b;
}
inline float __fsub_rn(float a, float b) {
  return a - b;
}
inline float __fmul_rn(float a, float b) {
  return a * b;
}
inline float __fdiv_rn(float a, float b) {
  return a / b;
}
inline float __fmaf_rn(float a, float b, float c) {
  return std::fma(a, b, c);
}
inline float __saturatef(float x) {
  return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f;
}  // NaN becomes 0
inline float rsqrtf(float x) {
  return 1.0f / std::sqrt(x);
}
inline double rsqrt(double x) {
  return 1.0 / std::sqrt(x);
}
inline float rcbrtf(float x) {
  return 1.0f / std::cbrt(x);
}
inline float normcdff(float x) {
  return 0.5f * std::erfc(-x * 0.70710678118654752f);
}
inline float sinpif(float x) {
  return float(std::sin(3.14159265358979323846 * std::fmod(double(x), 2.0)));
}
inline float cospif(float x) {
  return float(std::cos(3.14159265358979323846 * std::fmod(double(x), 2.0)));
}
inline void sincospif(float x, float* sine, float* cosine) {
  *sine = sinpif(x);
  *cosine = cospif(x);
}
#if !defined(_GNU_SOURCE)
inline void sincosf(float x, float* sine, float* cosine) {
  __sincosf(x, sine, cosine);
}
#endif

// ---- Conversions: rn to nearest even, rz towards 0, rd down, ru up ----

inline int __float2int_rn(float x) {
  return int(std::nearbyint(x));
}
inline int __float2int_rz(float x) {
  return int(x);
}
inline int __float2int_rd(float x) {
  return int(std::floor(x));
}
inline int __float2int_ru(float x) {
  return int(std::ceil(x));
}
inline unsigned __float2uint_rn(float x) {
  return unsigned(std::nearbyint(x));
}
inline unsigned __float2uint_rz(float x) {
  return unsigned(x);
}
inline long long __float2ll_rn(float x) {
  return static_cast<long long>(std::nearbyint(x));
}
inline int __double2int_rn(double x) {
  return int(std::nearbyint(x));
}
inline float __int2float_rn(int x) {
  return float(x);
}
inline float __uint2float_rn(unsigned x) {
  return float(x);
}
inline float __ll2float_rn(long long x) {
  return float(x);
}
inline float __ull2float_rn(unsigned long long x) {
  return float(x);
}
inline float __double2float_rn(double x) {
  return float(x);
}

// ---- bf16 and fp16: computed in float, as the device's own emulation of them is ----

// `name` for one number, `name2` for a pair.
#define TAKT_EMULATED_HALF_FUNCTION(name, name2, expression)          \
  inline __nv_bfloat16 name(__nv_bfloat16 value) {                    \
    const float x = __bfloat162float(value);                          \
    return __float2bfloat16(expression);                              \
  }                                                                   \
  inline __half name(__half value) {                                  \
    const float x = __half2float(value);                              \
    return __float2half(expression);                                  \
  }                                                                   \
  inline __nv_bfloat162 name2(__nv_bfloat162 pair) {                  \
    return {name(__low2bfloat16(pair)), name(__high2bfloat16(pair))}; \
  }                                                                   \
  inline __half2 name2(__half2 pair) {                                \
    return {name(__low2half(pair)), name(__high2half(pair))};         \
  }

TAKT_EMULATED_HALF_FUNCTION(hexp, h2exp, std::exp(x))
TAKT_EMULATED_HALF_FUNCTION(hexp2, h2exp2, std::exp2(x))
TAKT_EMULATED_HALF_FUNCTION(hlog, h2log, std::log(x))
TAKT_EMULATED_HALF_FUNCTION(hlog2, h2log2, std::log2(x))
TAKT_EMULATED_HALF_FUNCTION(hsqrt, h2sqrt, std::sqrt(x))
TAKT_EMULATED_HALF_FUNCTION(hrsqrt, h2rsqrt, 1.0f / std::sqrt(x))
TAKT_EMULATED_HALF_FUNCTION(hrcp, h2rcp, 1.0f / x)
TAKT_EMULATED_HALF_FUNCTION(hsin, h2sin, std::sin(x))
TAKT_EMULATED_HALF_FUNCTION(hcos, h2cos, std::cos(x))
TAKT_EMULATED_HALF_FUNCTION(htanh, h2tanh, std::tanh(x))
#undef TAKT_EMULATED_HALF_FUNCTION

inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
  return __float2bfloat16(std::fma(__bfloat162float(a), __bfloat162float(b), __bfloat162float(c)));
}
inline __half __hfma(__half a, __half b, __half c) {
  return __float2half(std::fma(__half2float(a), __half2float(b), __half2float(c)));
}
inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
  return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
  return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}

// ---- Loads and stores with cache hints: the hints do nothing ----

#define TAKT_EMULATED_LOAD(name) \
  template <class T>             \
  T name(const T* address) {     \
    return *address;             \
  }
#define TAKT_EMULATED_STORE(name)                          \
  template <class T>                                       \
  void name(T* address, takt::emulated::SameAs<T> value) { \
    *address = value;                                      \
  }
TAKT_EMULATED_LOAD(__ldg)
TAKT_EMULATED_LOAD(__ldca)
TAKT_EMULATED_LOAD(__ldcg)
TAKT_EMULATED_LOAD(__ldcs)
TAKT_EMULATED_LOAD(__ldcv)
TAKT_EMULATED_LOAD(__ldlu)
TAKT_EMULATED_STORE(__stwb)
TAKT_EMULATED_STORE(__stcg)
TAKT_EMULATED_STORE(__stcs)
TAKT_EMULATED_STORE(__stwt)
#undef TAKT_EMULATED_LOAD
#undef TAKT_EMULATED_STORE

// ---- Clocks ----

inline long long clock64() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}
inline void __nanosleep(unsigned) {}
