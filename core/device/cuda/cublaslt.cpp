// cuBLASLt thinks in columns. A row-major C[m, n] = A B is a column-major C^T[n, m] = B^T A^T in the same memory, so that
// the library's first operand is our B, its rows are our n, and its bias, one number a row, is ours, one number a column.
#include "core/device/cuda/cublaslt.h"

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <vector>

#include "core/base/owned.h"
#include "core/device/cuda/error.h"
#include "core/device/cuda/event.h"
#include "core/device/cuda/matmul_choices.h"

namespace takt {
namespace {

constexpr int kCandidates = 16;
constexpr std::uint32_t kAlignment = 16;

void destroy_product(cublasLtMatmulDesc_t desc) noexcept {
  cublasLtMatmulDescDestroy(desc);
}
void destroy_layout(cublasLtMatrixLayout_t layout) noexcept {
  cublasLtMatrixLayoutDestroy(layout);
}
void destroy_preference(cublasLtMatmulPreference_t preference) noexcept {
  cublasLtMatmulPreferenceDestroy(preference);
}
using Product = Owned<cublasLtMatmulDesc_t, destroy_product>;
using Layout = Owned<cublasLtMatrixLayout_t, destroy_layout>;
using Preference = Owned<cublasLtMatmulPreference_t, destroy_preference>;
using Candidates = std::vector<cublasLtMatmulAlgo_t>;

cudaDataType_t to_cuda(DType dtype) {
  TAKT_ASSERT(dtype == DType::kF32 || dtype == DType::kBF16, "cublaslt: no matmul for ", dtype);
  return dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F;
}

bool has_bias(MatmulEpilogue epilogue) {
  return epilogue == MatmulEpilogue::kBias || epilogue == MatmulEpilogue::kBiasGelu;
}
bool has_gelu(MatmulEpilogue epilogue) {
  return epilogue == MatmulEpilogue::kGelu || epilogue == MatmulEpilogue::kBiasGelu;
}

std::uint32_t to_cublaslt(MatmulEpilogue epilogue) {
  switch (epilogue) {
    case MatmulEpilogue::kNone:
      return CUBLASLT_EPILOGUE_DEFAULT;
    case MatmulEpilogue::kBias:
      return CUBLASLT_EPILOGUE_BIAS;
    case MatmulEpilogue::kGelu:
      return CUBLASLT_EPILOGUE_GELU_AUX;
    case MatmulEpilogue::kBiasGelu:
      return CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
  }
  fail(Fault::kBug, "cublaslt: epilogue ", static_cast<int>(epilogue));
}

template <class T>
void set(const Product& product, cublasLtMatmulDescAttributes_t attribute, T value) {
  TAKT_CUBLAS(cublasLtMatmulDescSetAttribute(product.get(), attribute, &value, sizeof value));
}
template <class T>
void set(const Layout& layout, cublasLtMatrixLayoutAttribute_t attribute, T value) {
  TAKT_CUBLAS(cublasLtMatrixLayoutSetAttribute(layout.get(), attribute, &value, sizeof value));
}
template <class T>
void set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute, T value) {
  TAKT_CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof value));
}

// A stack of matrices stored row-major as [rows, columns].
Layout make_layout(DType dtype, std::int64_t batch, std::int64_t rows, std::int64_t columns) {
  cublasLtMatrixLayout_t raw = nullptr;
  TAKT_CUBLAS(cublasLtMatrixLayoutCreate(&raw, to_cuda(dtype), static_cast<std::uint64_t>(columns),
                                         static_cast<std::uint64_t>(rows), columns));
  Layout layout(raw);
  set(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<std::int32_t>(batch));
  set(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, rows * columns);
  return layout;
}

Product make_product(const MatmulShape& s, MatmulEpilogue epilogue) {
  cublasLtMatmulDesc_t raw = nullptr;
  TAKT_CUBLAS(cublasLtMatmulDescCreate(&raw, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  Product product(raw);
  const auto operation = [](bool transposed) {
    return static_cast<std::int32_t>(transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  };
  set(product, CUBLASLT_MATMUL_DESC_TRANSA, operation(s.transpose_b));
  set(product, CUBLASLT_MATMUL_DESC_TRANSB, operation(s.transpose_a));
  set(product, CUBLASLT_MATMUL_DESC_EPILOGUE, to_cublaslt(epilogue));
  // Every run sets the pointers; the heuristic goes by their alignment.
  void* const any = reinterpret_cast<void*>(std::uintptr_t{kAlignment});
  if (has_bias(epilogue)) set(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, any);
  if (has_gelu(epilogue)) {
    set(product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, any);
    set(product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, s.n);
    set(product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, s.m * s.n);
  }
  return product;
}

Preference make_preference(std::size_t workspace_bytes) {
  cublasLtMatmulPreference_t raw = nullptr;
  TAKT_CUBLAS(cublasLtMatmulPreferenceCreate(&raw));
  Preference preference(raw);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(workspace_bytes));
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    set(preference, attribute, kAlignment);
  // Products cut along k are added up in f32, not in the type of a bf16 result.
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  return preference;
}

std::string text_of(const MatmulShape& s) {
  return concat(s.batch, "x[", s.m, ",", s.k, "]", s.transpose_a ? "T" : "", "x[", s.k, ",", s.n, "]",
                s.transpose_b ? "T" : "", ":", s.dtype, "->", s.out_dtype);
}

// Device memory while products are measured.
void free_device(void* memory) noexcept {
  cudaFree(memory);
}
using DeviceMemory = Owned<void*, free_device>;

// Filled with bytes 0x3C, 0.0115 in f32 and bf16: multiplying zeros takes less power, and with it less time, than numbers.
DeviceMemory allocate(std::int64_t num_elements, DType dtype, const CudaStream& stream) {
  const std::size_t bytes = static_cast<std::size_t>(num_elements) * num_bytes(dtype);
  void* raw = nullptr;
  TAKT_CUDA(cudaMalloc(&raw, bytes));
  DeviceMemory memory(raw);
  TAKT_CUDA(cudaMemsetAsync(raw, 0x3C, bytes, stream.get()));
  return memory;
}

}  // namespace

struct CublasLtMatmul::Impl {
  MatmulShape shape;
  MatmulEpilogue epilogue;
  std::size_t workspace_bytes;
  cublasLtHandle_t handle;
  Product product;
  Layout a, b, c;  // ours: the library's operands are b and a
  cublasLtMatmulAlgo_t algorithm = {};

  Impl(CudaContext& context, const MatmulShape& s, MatmulEpilogue with, std::size_t workspace)
      : shape(s),
        epilogue(with),
        workspace_bytes(workspace),
        handle(context.cublaslt()),
        product(make_product(s, with)),
        a(make_layout(s.dtype, s.batch, s.transpose_a ? s.k : s.m, s.transpose_a ? s.m : s.k)),
        b(make_layout(s.dtype, s.batch, s.transpose_b ? s.n : s.k, s.transpose_b ? s.k : s.n)),
        c(make_layout(s.out_dtype, s.batch, s.m, s.n)) {}

  // The heuristic's, best first.
  Candidates candidates() const {
    const Preference preference = make_preference(workspace_bytes);
    std::array<cublasLtMatmulHeuristicResult_t, kCandidates> results = {};
    int num_found = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle, product.get(), b.get(), a.get(), c.get(), c.get(),
                                       preference.get(), kCandidates, results.data(), &num_found);
    const bool unsupported = status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE;
    if (epilogue == MatmulEpilogue::kNone || !unsupported) TAKT_CUBLAS(status);
    Candidates found;
    for (int i = 0; !unsupported && i < num_found; ++i)
      if (results[static_cast<std::size_t>(i)].state == CUBLAS_STATUS_SUCCESS)
        found.push_back(results[static_cast<std::size_t>(i)].algo);
    return found;
  }

  void run(const Tensors& t, cudaStream_t stream) {
    if (has_bias(epilogue)) set(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, t.bias);
    if (has_gelu(epilogue)) set(product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, t.before_activation);
    const float one = 1.0f, zero = 0.0f;
    TAKT_CUBLAS(cublasLtMatmul(handle, product.get(), &one, t.b, b.get(), t.a, a.get(), &zero, t.c, c.get(),
                               t.c, c.get(), &algorithm, t.workspace, workspace_bytes, stream));
  }

  double measure(const Tensors& tensors, const CudaStream& stream) {
    constexpr int kRuns = 5;
    const CudaEvent start(EventTiming::kOn), end(EventTiming::kOn);
    run(tensors, stream.get());  // loads the kernel
    start.record(stream);
    for (int i = 0; i < kRuns; ++i) run(tensors, stream.get());
    end.record(stream);
    end.synchronize();
    return end.seconds_since(start) / kRuns;
  }

  MeasuredChoice fastest_of(const Candidates& candidates, const CudaStream& stream) {
    const std::int64_t num_a = shape.batch * shape.m * shape.k, num_b = shape.batch * shape.k * shape.n,
                       num_c = shape.batch * shape.m * shape.n;
    const DeviceMemory of_a = allocate(num_a, shape.dtype, stream),
                       of_b = allocate(num_b, shape.dtype, stream),
                       of_bias = allocate(shape.n, shape.out_dtype, stream),
                       of_c = allocate(num_c, shape.out_dtype, stream),
                       of_aux = allocate(num_c, shape.out_dtype, stream),
                       work = allocate(static_cast<std::int64_t>(workspace_bytes), DType::kU8, stream);
    const Tensors tensors{of_a.get(), of_b.get(), of_bias.get(), of_c.get(), of_aux.get(), work.get()};
    MeasuredChoice best{.candidate = -1};
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      algorithm = candidates[i];
      const double time_s = measure(tensors, stream);
      if (best.candidate < 0 || time_s < best.time_s) best = {static_cast<int>(i), time_s};
    }
    return best;
  }

  void choose(const Candidates& candidates, const CudaContext& context) {
    std::size_t chosen = 0;
    if (!context.matmul_choices().empty()) {
      const std::string key = concat("cublaslt-", cublasLtGetVersion(), "/sm", context.compute_capability(),
                                     "-", context.num_multiprocessors(), "/", text_of(shape), "/",
                                     static_cast<int>(epilogue), "/", workspace_bytes);
      const MeasuredChoice choice = find_or_measure(
          context.matmul_choices(), key, [&] { return fastest_of(candidates, context.compute_stream()); });
      chosen = static_cast<std::size_t>(choice.candidate);
      TAKT_REQUIRE(chosen < candidates.size(), "matmul choices '", context.matmul_choices(), "': ", key,
                   " has candidate ", chosen, " of ", candidates.size(), "\n  delete the file");
    }
    algorithm = candidates[chosen];
  }
};

std::optional<CublasLtMatmul> CublasLtMatmul::find(CudaContext& context, const MatmulShape& shape,
                                                   MatmulEpilogue epilogue, std::size_t workspace_bytes) {
  auto impl = std::make_unique<Impl>(context, shape, epilogue, workspace_bytes);
  const Candidates candidates = impl->candidates();
  if (candidates.empty()) {
    TAKT_ASSERT(epilogue != MatmulEpilogue::kNone, "cublaslt: no algorithm for ", text_of(shape), " with ",
                workspace_bytes, " bytes of workspace");
    return std::nullopt;
  }
  impl->choose(candidates, context);
  return CublasLtMatmul(std::move(impl));
}

CublasLtMatmul::CublasLtMatmul(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CublasLtMatmul::CublasLtMatmul(CublasLtMatmul&&) noexcept = default;
CublasLtMatmul& CublasLtMatmul::operator=(CublasLtMatmul&&) noexcept = default;
CublasLtMatmul::~CublasLtMatmul() = default;

void CublasLtMatmul::run(const Tensors& tensors, cudaStream_t stream) {
  impl_->run(tensors, stream);
}

}  // namespace takt
