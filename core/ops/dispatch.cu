// dispatch: tokens into the slots they picked, zeros elsewhere; combine: tokens as sums of their slots; slot_dot: products of
// tokens with their slots
//
// Traffic   dispatch: slots are filled with zeros, then a token is read once for each pick and written to its slot, which
//           nobody else writes. combine: the picked slots once, tokens once. slot_dot: a token once for each pick.
// Blocks    dispatch and combine: packs of 16 bytes, numbered through all rows. slot_dot: a warp or a block a pick, which sums
//           in a fixed tree.
#include "core/device/cuda/row_group.cuh"
#include "core/ops/cuda_kernels.h"

namespace takt::cuda {
namespace {

// Tokens [batch, seq, columns], picks [batch, seq, picks], slots [expert, batch, capacity, columns].
struct SlotShape {
  std::int64_t batch, seq, picks, capacity, columns, num_slots;

  // The first element of the slot that a token picked.
  __device__ __forceinline__ std::int64_t offset(std::int64_t token, std::int64_t slot) const {
    return ((slot / capacity * batch + token / seq) * capacity + slot % capacity) * columns;
  }
  std::int64_t num_tokens() const { return batch * seq; }
};

SlotShape slot_shape(const TensorDesc& tokens, const TensorDesc& picks, const TensorDesc& slots) {
  return {tokens.dims[0].extent, tokens.dims[1].extent, picks.dims[2].extent,
          slots.dims[2].extent,  tokens.dims[2].extent, slots.num_elements() / tokens.dims[2].extent};
}

// ---- Dispatch ----

// `weights`: null where all are 1.
template <int kWidth, class T>
__global__ void __launch_bounds__(kBlockThreads)
    fill_slots(SlotShape s, const T* x, const std::int32_t* slots, const float* weights, T* y,
               std::int64_t num_packs) {
  const std::int64_t packs_a_row = s.columns / kWidth,
                     step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < num_packs;
       i += step) {
    const std::int64_t pick = i / packs_a_row, token = pick / s.picks, column = i % packs_a_row * kWidth;
    const std::int32_t slot = slots[pick];
    if (slot < 0) continue;
    float values[kWidth];
    load(x + token * s.columns + column, values);
    if (weights != nullptr) {
#pragma unroll
      for (int c = 0; c < kWidth; ++c) values[c] *= weights[pick];
    }
    store(y + s.offset(token, slot) + column, values);
  }
}

template <class T>
void launch_dispatch(const KernelArgs& k, const SlotShape& s, bool weighted) {
  constexpr int kWidth = kPackWidth<T>;
  const auto stream = static_cast<cudaStream_t>(k.stream);
  const bool packed = s.columns % kWidth == 0 && is_aligned(k.inputs[0]) && is_aligned(k.outputs[0]);
  const std::int64_t num_packs = s.num_tokens() * s.picks * s.columns / (packed ? kWidth : 1);
  TAKT_CUDA(cudaMemsetAsync(k.outputs[0], 0, static_cast<std::size_t>(s.num_slots * s.columns) * sizeof(T),
                            stream));
  launch(packed ? fill_slots<kWidth, T> : fill_slots<1, T>, dim3(strided_blocks(num_packs)),
         dim3(kBlockThreads), 0, stream, s, k.input<T>(0), k.input<std::int32_t>(1),
         weighted ? k.input<float>(2) : nullptr, k.output<T>(0), num_packs);
}

Kernel prepare_dispatch(const KernelNode& node) {
  return with_floating(node.input(0).dtype, [&](auto type) -> Kernel {
    return [s = slot_shape(node.input(0), node.input(1), node.output(0)), weighted = node.inputs.size() == 3](
               const KernelArgs& k) { launch_dispatch<decltype(type)>(k, s, weighted); };
  });
}

// ---- Combine ----

template <int kWidth, class T>
__global__ void __launch_bounds__(kBlockThreads)
    sum_slots(SlotShape s, const T* y, const std::int32_t* slots, const float* weights, T* x,
              std::int64_t num_packs) {
  const std::int64_t packs_a_row = s.columns / kWidth,
                     step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < num_packs;
       i += step) {
    const std::int64_t token = i / packs_a_row, column = i % packs_a_row * kWidth;
    float sums[kWidth] = {};
    for (std::int64_t pick = token * s.picks; pick < (token + 1) * s.picks; ++pick) {
      const std::int32_t slot = slots[pick];
      if (slot < 0) continue;
      const float weight = weights != nullptr ? weights[pick] : 1.0f;
      float values[kWidth];
      load(y + s.offset(token, slot) + column, values);
#pragma unroll
      for (int c = 0; c < kWidth; ++c) sums[c] += weight * values[c];
    }
    store(x + token * s.columns + column, sums);
  }
}

template <class T>
void launch_combine(const KernelArgs& k, const SlotShape& s, bool weighted) {
  constexpr int kWidth = kPackWidth<T>;
  const bool packed = s.columns % kWidth == 0 && is_aligned(k.inputs[0]) && is_aligned(k.outputs[0]);
  const std::int64_t num_packs = s.num_tokens() * s.columns / (packed ? kWidth : 1);
  launch(packed ? sum_slots<kWidth, T> : sum_slots<1, T>, dim3(strided_blocks(num_packs)),
         dim3(kBlockThreads), 0, static_cast<cudaStream_t>(k.stream), s, k.input<T>(0),
         k.input<std::int32_t>(1), weighted ? k.input<float>(2) : nullptr, k.output<T>(0), num_packs);
}

Kernel prepare_combine(const KernelNode& node) {
  return with_floating(node.input(0).dtype, [&](auto type) -> Kernel {
    return [s = slot_shape(node.output(0), node.input(1), node.input(0)), weighted = node.inputs.size() == 3](
               const KernelArgs& k) { launch_combine<decltype(type)>(k, s, weighted); };
  });
}

// ---- Products ----

template <int kThreads, int kWidth, class T>
__global__ void __launch_bounds__(kBlockThreads)
    slot_products(std::int64_t num_picks, int width, SlotShape s, const T* y, const std::int32_t* slots,
                  const T* x, float* products) {
  const std::int64_t pick = row_of_thread();
  if (pick >= num_picks) return;
  const std::int64_t token = pick / s.picks;
  const std::int32_t slot = slots[pick];
  float sum = 0;
  if (slot >= 0) {
    const T *at_slot = y + s.offset(token, slot), *at_token = x + token * s.columns;
    over_packs<kThreads, kWidth>(width, [&](int c) {
      float a[kWidth], b[kWidth];
      load(at_slot + c, a);
      load(at_token + c, b);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum += a[i] * b[i];
    });
    sum = over_row<kThreads>(sum, Sum());
  }
  if (threadIdx.x == 0) products[pick] = sum;
}

template <class T>
void launch_slot_dot(const KernelArgs& k, const SlotShape& s) {
  const RowShape rows{.num_rows = s.num_tokens() * s.picks, .width = s.columns};
  launch_rows<kPackWidth<T>>(
      [](auto threads, auto width) { return slot_products<threads.value, width.value, T>; }, rows, k.stream,
      s, k.input<T>(0), k.input<std::int32_t>(1), k.input<T>(2), k.output<float>(0));
}

Kernel prepare_slot_dot(const KernelNode& node) {
  return with_floating(node.input(0).dtype, [&](auto type) -> Kernel {
    return [s = slot_shape(node.input(2), node.input(1), node.input(0))](const KernelArgs& k) {
      launch_slot_dot<decltype(type)>(k, s);
    };
  });
}

}  // namespace

DeviceKernel dispatch() {
  return {.prepare = prepare_dispatch, .bf16 = true};
}

DeviceKernel combine() {
  return {.prepare = prepare_combine, .bf16 = true};
}

DeviceKernel slot_dot() {
  return {.prepare = prepare_slot_dot, .bf16 = true};
}

}  // namespace takt::cuda
