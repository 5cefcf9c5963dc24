// Block by block, with one block of scratch for each level of the tree.
#include "tests/emulated/nccl_reduce.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <type_traits>

#include "tests/emulated/diagnosis.h"

namespace takt::emulated {
namespace {

constexpr std::size_t kBlock = 256;  // elements

// 16-bit types are computed in f32 and stored rounded. Integers wrap around, which only unsigned ones may.
template <class T>
struct Arithmetic {
  using Wide = T;
};
template <>
struct Arithmetic<__half> {
  using Wide = float;
};
template <>
struct Arithmetic<__nv_bfloat16> {
  using Wide = float;
};
template <>
struct Arithmetic<int8_t> {
  using Wide = uint8_t;
};
template <>
struct Arithmetic<int32_t> {
  using Wide = uint32_t;
};
template <>
struct Arithmetic<int64_t> {
  using Wide = uint64_t;
};

float wide(__half value) {
  return __half2float(value);
}
float wide(__nv_bfloat16 value) {
  return __bfloat162float(value);
}
template <class T>
typename Arithmetic<T>::Wide wide(T value) {
  return static_cast<typename Arithmetic<T>::Wide>(value);
}

template <class T>
T narrow(typename Arithmetic<T>::Wide value) {
  if constexpr (std::is_same_v<T, __half>)
    return __float2half(value);
  else if constexpr (std::is_same_v<T, __nv_bfloat16>)
    return __float2bfloat16(value);
  else
    return static_cast<T>(value);
}

template <class T>
bool is_less(T a, T b) {
  if constexpr (std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>)
    return wide(a) < wide(b);
  else
    return a < b;
}

// A NaN wins a maximum or minimum, as in collectives/reduce.cpp.
template <class T>
bool is_nan(T value) {
  if constexpr (std::is_integral_v<T>)
    return false;
  else
    return wide(value) != wide(value);
}

template <class T>
T combined(T a, T b, ncclRedOp_t op) {
  switch (op) {
    case ncclProd:
      return narrow<T>(static_cast<typename Arithmetic<T>::Wide>(wide(a) * wide(b)));
    case ncclMax:
      return is_less(a, b) || is_nan(b) ? b : a;
    case ncclMin:
      return is_less(b, a) || is_nan(b) ? b : a;
    default:  // ncclSum, ncclAvg
      return narrow<T>(static_cast<typename Arithmetic<T>::Wide>(wide(a) + wide(b)));
  }
}

// The tree over `terms` for one block that begins at `begin`.
template <class T>
void reduce_block(T* out, std::span<const void* const> terms, std::size_t begin, std::size_t num,
                  ncclRedOp_t op) {
  if (terms.size() == 1) {
    std::copy_n(static_cast<const T*>(terms[0]) + begin, num, out);
    return;
  }
  const std::size_t num_left = std::bit_floor(terms.size() - 1);
  T right[kBlock];
  reduce_block(out, terms.first(num_left), begin, num, op);
  reduce_block(right, terms.subspan(num_left), begin, num, op);
  for (std::size_t i = 0; i < num; ++i) out[i] = combined(out[i], right[i], op);
}

template <class T>
void reduce(T* out, std::span<const void* const> terms, std::size_t num_elements, ncclRedOp_t op) {
  for (std::size_t begin = 0; begin < num_elements; begin += kBlock)
    reduce_block(out + begin, terms, begin, std::min(kBlock, num_elements - begin), op);
  if (op != ncclAvg) return;
  for (std::size_t i = 0; i < num_elements; ++i) {
    if constexpr (std::is_integral_v<T>)
      out[i] = static_cast<T>(out[i] / static_cast<T>(terms.size()));
    else
      out[i] = narrow<T>(wide(out[i]) / static_cast<typename Arithmetic<T>::Wide>(terms.size()));
  }
}

}  // namespace

std::size_t element_bytes(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
      return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
      return 8;
    default:
      return 0;
  }
}

void reduce_ranks(void* out, std::span<const void* const> terms, std::size_t num_elements,
                  ncclDataType_t type, ncclRedOp_t op) {
  switch (type) {
    case ncclInt8:
      return reduce(static_cast<int8_t*>(out), terms, num_elements, op);
    case ncclUint8:
      return reduce(static_cast<uint8_t*>(out), terms, num_elements, op);
    case ncclInt32:
      return reduce(static_cast<int32_t*>(out), terms, num_elements, op);
    case ncclUint32:
      return reduce(static_cast<uint32_t*>(out), terms, num_elements, op);
    case ncclInt64:
      return reduce(static_cast<int64_t*>(out), terms, num_elements, op);
    case ncclUint64:
      return reduce(static_cast<uint64_t*>(out), terms, num_elements, op);
    case ncclFloat16:
      return reduce(static_cast<__half*>(out), terms, num_elements, op);
    case ncclBfloat16:
      return reduce(static_cast<__nv_bfloat16*>(out), terms, num_elements, op);
    case ncclFloat32:
      return reduce(static_cast<float*>(out), terms, num_elements, op);
    case ncclFloat64:
      return reduce(static_cast<double*>(out), terms, num_elements, op);
    default:
      forbidden("NCCL double: reduction of a type that it does not know");
  }
}

}  // namespace takt::emulated
