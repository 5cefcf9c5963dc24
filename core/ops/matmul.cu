// matmul: y = act( a b + bias ) by cuBLASLt, lowered as on the CPU (matmul_lowering.h)
//
// Epilogue  in the product where the library has it: the bias always, in the result's dtype (a bf16 result has it rounded to
//           bf16, in scratch); gelu with the value before it for bf16 results, to whose accuracy the library computes it.
//           What it does not have, silu and f32's activations, is one pass over the result here: one read and one write an
//           output, 16 bytes an access, 256 threads a block that stride over the grid.
// Scratch   the library's workspace, which must lie at a multiple of 256 bytes (NVIDIA's documentation of cublasLtMatmul), and
//           the rounded bias.
#include "core/device/cuda/cublaslt.h"
#include "core/ops/activation.cuh"
#include "core/ops/cuda_kernels.h"
#include "core/ops/elementwise.cuh"
#include "core/ops/matmul_lowering.h"

namespace takt::cuda {
namespace {

// Room for 16 f32 copies of the result, for products that are cut along k: at least a mebibyte and at most the 32 that
// NVIDIA advises for Hopper.
std::size_t workspace_bytes(const MatmulShape& s) {
  constexpr std::int64_t kMebibyte = 1 << 20, kCopies = 16;
  const std::int64_t bytes = kCopies * s.batch * s.m * s.n * static_cast<std::int64_t>(sizeof(float));
  return static_cast<std::size_t>(
      std::clamp(divide_up(bytes, kMebibyte) * kMebibyte, kMebibyte, 32 * kMebibyte));
}

// Where the workspace begins in a node's scratch, which the plan aligns to less.
constexpr std::uintptr_t kWorkspaceAlignment = 256;
std::byte* workspace_in(void* scratch) {
  const auto address = reinterpret_cast<std::uintptr_t>(scratch);
  return static_cast<std::byte*>(scratch) +
         (kWorkspaceAlignment - address % kWorkspaceAlignment) % kWorkspaceAlignment;
}

bool rounds_bias(const MatmulShape& s) {
  return s.has_bias && s.out_dtype == DType::kBF16;
}

std::size_t scratch_matmul(const KernelNode& node) {
  const MatmulShape s = lower_matmul(node).shape;
  return kWorkspaceAlignment + workspace_bytes(s) +
         (rounds_bias(s) ? static_cast<std::size_t>(s.n) * sizeof(__nv_bfloat16) : 0);
}

struct NoActivation {
  static __device__ __forceinline__ float value(float x) { return x; }
};

// x += bias, a number a column of `width`, if there is one;  y = act(x). y may be x, which then has no value of its own.
template <int kWidth, class T, class Act>
__global__ void __launch_bounds__(kBlockThreads)
    finish_packs(T* x, const float* bias, T* y, std::int64_t width, std::int64_t num_elements) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x * kWidth;
  for (std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kWidth;
       first < num_elements; first += step) {
    float values[kWidth], terms[kWidth];
    load(x + first, values);
    if (bias != nullptr) {
      load(bias + first % width, terms);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) values[i] += terms[i];
      store(x + first, values);
    }
#pragma unroll
    for (int i = 0; i < kWidth; ++i) values[i] = Act::value(values[i]);
    store(y + first, values);
  }
}

template <class T, class Act>
void launch_finish(const MatmulShape& s, void* x, const void* bias, void* y, cudaStream_t stream) {
  constexpr int kWidth = kPackWidth<T>;
  const std::int64_t num_elements = s.batch * s.m * s.n;
  const bool packed = s.n % kWidth == 0 && is_aligned(x) && is_aligned(bias) && is_aligned(y);
  launch(packed ? finish_packs<kWidth, T, Act> : finish_packs<1, T, Act>,
         dim3(strided_blocks(divide_up(num_elements, packed ? kWidth : 1))), dim3(kBlockThreads), 0, stream,
         static_cast<T*>(x), static_cast<const float*>(bias), static_cast<T*>(y), s.n, num_elements);
}

struct Rounded {
  static constexpr int kInputs = 1, kOutputs = 1;
  __device__ void operator()(const float* x, float* y) const { y[0] = x[0]; }
};

// A node's product, the part of its epilogue that the library does, and the part that is left.
class Matmul {
 public:
  explicit Matmul(const KernelNode& node)
      : lowered_(lower_matmul(node)), activation_(node.attrs.text("activation")) {
    TAKT_ASSERT(node.cuda != nullptr, "matmul '", node.name, "': the CUDA kernel needs the rank's GPU");
    for (const MatmulEpilogue epilogue : wanted_epilogues()) {
      product_ = CublasLtMatmul::find(*node.cuda, shape(), epilogue, workspace_bytes(shape()));
      epilogue_ = epilogue;
      if (product_) return;
    }
  }

  void run(const KernelArgs& k) {
    const auto stream = static_cast<cudaStream_t>(k.stream);
    const bool swapped = lowered_.swapped_out;
    void* const result = k.outputs[activation_.empty() ? 0 : 1];  // with an activation: the value before it
    CublasLtMatmul::Tensors tensors{.a = k.inputs[swapped ? 1 : 0],
                                    .b = k.inputs[swapped ? 0 : 1],
                                    .bias = nullptr,
                                    .c = result,
                                    .before_activation = nullptr,
                                    .workspace = workspace_in(k.scratch)};
    if (adds_bias()) tensors.bias = bias_of(k);
    if (activates()) {
      tensors.c = k.outputs[0];
      tensors.before_activation = result;
    }
    product_->run(tensors, stream);
    const void* bias = shape().has_bias && !adds_bias() ? k.inputs[2] : nullptr;
    if (bias != nullptr || !(activation_.empty() || activates())) finish(result, bias, k.outputs[0], stream);
  }

 private:
  const MatmulShape& shape() const { return lowered_.shape; }
  bool adds_bias() const {
    return epilogue_ == MatmulEpilogue::kBias || epilogue_ == MatmulEpilogue::kBiasGelu;
  }
  bool activates() const {
    return epilogue_ == MatmulEpilogue::kGelu || epilogue_ == MatmulEpilogue::kBiasGelu;
  }

  // Those that do something for this node, the one that does most first.
  std::vector<MatmulEpilogue> wanted_epilogues() const {
    std::vector<MatmulEpilogue> wanted;
    if (activation_ == "gelu" && shape().out_dtype == DType::kBF16)
      wanted.push_back(shape().has_bias ? MatmulEpilogue::kBiasGelu : MatmulEpilogue::kGelu);
    if (shape().has_bias) wanted.push_back(MatmulEpilogue::kBias);
    wanted.push_back(MatmulEpilogue::kNone);
    return wanted;
  }

  // The bias as the library wants it, which may be queued work.
  const void* bias_of(const KernelArgs& k) const {
    if (!rounds_bias(shape())) return k.inputs[2];
    void* const rounded = workspace_in(k.scratch) + workspace_bytes(shape());
    void* const from[] = {k.inputs[2]};
    void* const to[] = {rounded};
    launch_elementwise<float, __nv_bfloat16>(Rounded(), {.inputs = from, .outputs = to, .stream = k.stream},
                                             shape().n);
    return rounded;
  }

  void finish(void* x, const void* bias, void* y, cudaStream_t stream) const {
    with_floating(shape().out_dtype, [&](auto type) {
      using T = decltype(type);
      if (activation_.empty())
        launch_finish<T, NoActivation>(shape(), x, bias, y, stream);
      else if (activation_ == "silu")
        launch_finish<T, Silu>(shape(), x, bias, y, stream);
      else
        launch_finish<T, Gelu>(shape(), x, bias, y, stream);
    });
  }

  LoweredMatmul lowered_;
  std::string activation_;
  std::optional<CublasLtMatmul> product_;
  MatmulEpilogue epilogue_ = MatmulEpilogue::kNone;
};

Kernel prepare_matmul(const KernelNode& node) {
  return [matmul = std::make_shared<Matmul>(node)](const KernelArgs& k) { matmul->run(k); };
}

}  // namespace

DeviceKernel matmul() {
  return {.prepare = prepare_matmul, .scratch_bytes = scratch_matmul, .bf16 = true};
}

}  // namespace takt::cuda
