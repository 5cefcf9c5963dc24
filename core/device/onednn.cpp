// oneDNN through its C++ interface for set-up and its C interface for execution, which builds no argument
// map.
#include "core/device/onednn.h"

#include <omp.h>

#include <array>
#include <oneapi/dnnl/dnnl.hpp>

#include "core/base/error.h"

namespace takt {
namespace {

using Memory = dnnl::memory;

Memory::data_type to_dnnl(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return Memory::data_type::f32;
    case DType::kBF16:
      return Memory::data_type::bf16;
    default:
      fail(Fault::kBug, "onednn: no matmul for ", dtype);
  }
}

// A [rows, cols] matrix, or a stack of them, stored transposed or not.
Memory::desc matrix(std::int64_t batch, std::int64_t rows, std::int64_t cols, bool transposed,
                    Memory::data_type type) {
  if (batch == 1) return {{rows, cols}, type, transposed ? Memory::format_tag::ba : Memory::format_tag::ab};
  return {{batch, rows, cols}, type, transposed ? Memory::format_tag::acb : Memory::format_tag::abc};
}

dnnl::matmul::primitive_desc describe(const MatmulShape& s, const dnnl::engine& engine) {
  const Memory::data_type type = to_dnnl(s.dtype);
  const auto a = matrix(s.batch, s.m, s.k, s.transpose_a, type);
  const auto b = matrix(s.batch, s.k, s.n, s.transpose_b, type);
  const auto c = matrix(s.batch, s.m, s.n, false, type);
  const auto bias = s.has_bias ? matrix(1, 1, s.n, false, type) : Memory::desc();
#if DNNL_VERSION_MAJOR >= 3
  if (s.has_bias) return {engine, a, b, bias, c};
  return {engine, a, b, c};
#else
  if (s.has_bias) return {dnnl::matmul::desc(a, b, bias, c), engine};
  return {dnnl::matmul::desc(a, b, c), engine};
#endif
}

}  // namespace

struct OnednnMatmul::Impl {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::matmul::primitive_desc desc;
  dnnl::matmul primitive;
  Memory a, b, bias, c;
  std::array<dnnl_exec_arg_t, 4> args{};
  int num_args = 0;

  explicit Impl(const MatmulShape& shape)
      : desc(describe(shape, engine)),
        primitive(desc),
        a(desc.src_desc(), engine, DNNL_MEMORY_NONE),
        b(desc.weights_desc(), engine, DNNL_MEMORY_NONE),
        c(desc.dst_desc(), engine, DNNL_MEMORY_NONE) {
    args = {{{DNNL_ARG_SRC, a.get()}, {DNNL_ARG_WEIGHTS, b.get()}, {DNNL_ARG_DST, c.get()}, {}}};
    num_args = 3;
    if (shape.has_bias) {
      bias = Memory(desc.bias_desc(), engine, DNNL_MEMORY_NONE);
      args[3] = {DNNL_ARG_BIAS, bias.get()};
      num_args = 4;
    }
  }
};

OnednnMatmul::OnednnMatmul(const MatmulShape& shape) {
  try {
    impl_ = std::make_unique<Impl>(shape);
  } catch (const dnnl::error& error) {
    fail(Fault::kBug, "onednn: cannot create matmul ", shape.batch, " x [", shape.m, ", ", shape.k, "] x [",
         shape.k, ", ", shape.n, "]: ", error.what());
  }
}
OnednnMatmul::OnednnMatmul(OnednnMatmul&&) noexcept = default;
OnednnMatmul& OnednnMatmul::operator=(OnednnMatmul&&) noexcept = default;
OnednnMatmul::~OnednnMatmul() = default;

void OnednnMatmul::run(const void* a, const void* b, const void* bias, void* c) const {
  const auto set = [](const Memory& memory, const void* data) {
    TAKT_ASSERT(dnnl_memory_set_data_handle(memory.get(), const_cast<void*>(data)) == dnnl_success,
                "onednn: set handle failed");
  };
  set(impl_->a, a);
  set(impl_->b, b);
  set(impl_->c, c);
  if (impl_->num_args == 4) set(impl_->bias, bias);
  const dnnl_status_t status = dnnl_primitive_execute(impl_->primitive.get(), impl_->stream.get(),
                                                      impl_->num_args, impl_->args.data());
  TAKT_ASSERT(status == dnnl_success, "onednn: matmul failed with status ", static_cast<int>(status));
}

void onednn_sgemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                  float alpha, const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta,
                  float* c, std::int64_t ldc) {
  const dnnl_status_t status = dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, alpha, a,
                                          lda, b, ldb, beta, c, ldc);
  TAKT_ASSERT(status == dnnl_success, "onednn: sgemm failed with status ", static_cast<int>(status));
}

std::string onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return concat(version->major, ".", version->minor, ".", version->patch);
}

std::string onednn_isa() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::sse41:
      return "sse41";
    case dnnl::cpu_isa::avx:
      return "avx";
    case dnnl::cpu_isa::avx2:
      return "avx2";
    case dnnl::cpu_isa::avx512_core:
      return "avx512";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_vnni";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_bf16";
    default:
      return "avx512_bf16 or later";
  }
}

void set_cpu_threads(int num_threads) {
  omp_set_num_threads(num_threads);
}

}  // namespace takt
