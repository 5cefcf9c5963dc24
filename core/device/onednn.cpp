// oneDNN through its C++ interface for set-up and its C interface for execution, which builds no argument map.
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
  const auto a = matrix(s.batch, s.m, s.k, s.transpose_a, to_dnnl(s.dtype));
  const auto b = matrix(s.batch, s.k, s.n, s.transpose_b, to_dnnl(s.dtype));
  const auto c = matrix(s.batch, s.m, s.n, false, to_dnnl(s.out_dtype));
  const auto bias = s.has_bias ? matrix(1, 1, s.n, false, Memory::data_type::f32) : Memory::desc();
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
#if DNNL_VERSION_MAJOR >= 3
  if (s.has_bias) return {engine, a, b, bias, c, attr};
  return {engine, a, b, c, attr};
#else
  if (s.has_bias) return {dnnl::matmul::desc(a, b, bias, c), attr, engine};
  return {dnnl::matmul::desc(a, b, c), attr, engine};
#endif
}

// The OpenMP team of the calling thread while it lives: oneDNN sizes a primitive's work by it.
class TeamScope {
 public:
  explicit TeamScope(int num_threads) : before_(omp_get_max_threads()) { omp_set_num_threads(num_threads); }
  ~TeamScope() { omp_set_num_threads(before_); }
  TeamScope(const TeamScope&) = delete;
  TeamScope& operator=(const TeamScope&) = delete;

 private:
  int before_;
};

}  // namespace

struct OnednnMatmul::Impl {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::matmul::primitive_desc desc;
  dnnl::matmul primitive;
  Memory a, b, c, scratch, bias;
  std::array<dnnl_exec_arg_t, 5> args{};
  int num_args = 4;

  explicit Impl(const MatmulShape& shape)
      : desc(describe(shape, engine)),
        primitive(desc),
        a(desc.src_desc(), engine, DNNL_MEMORY_NONE),
        b(desc.weights_desc(), engine, DNNL_MEMORY_NONE),
        c(desc.dst_desc(), engine, DNNL_MEMORY_NONE),
        scratch(desc.scratchpad_desc(), engine, DNNL_MEMORY_NONE) {
    args = {{{DNNL_ARG_SRC, a.get()},
             {DNNL_ARG_WEIGHTS, b.get()},
             {DNNL_ARG_DST, c.get()},
             {DNNL_ARG_SCRATCHPAD, scratch.get()},
             {}}};
    if (!shape.has_bias) return;
    bias = Memory(desc.bias_desc(), engine, DNNL_MEMORY_NONE);
    args[4] = {DNNL_ARG_BIAS, bias.get()};
    num_args = 5;
  }
};

OnednnMatmul::OnednnMatmul(const MatmulShape& shape, int num_threads) {
  const TeamScope team(num_threads);
  try {
    impl_ = std::make_unique<Impl>(shape);
  } catch (const dnnl::error& error) {
    fail(Fault::kBug, "onednn: cannot create matmul ", shape.batch, " x [", shape.m, ", ", shape.k, "] x [",
         shape.k, ", ", shape.n, "] of ", shape.dtype, " to ", shape.out_dtype, ": ", error.what());
  }
}
OnednnMatmul::OnednnMatmul(OnednnMatmul&&) noexcept = default;
OnednnMatmul& OnednnMatmul::operator=(OnednnMatmul&&) noexcept = default;
OnednnMatmul::~OnednnMatmul() = default;

std::size_t OnednnMatmul::scratch_bytes() const {
  return impl_->desc.scratchpad_desc().get_size();
}

void OnednnMatmul::run(const void* a, const void* b, const void* bias, void* c, void* scratch) {
  const auto set = [](const Memory& memory, const void* data) {
    TAKT_ASSERT(dnnl_memory_set_data_handle(memory.get(), const_cast<void*>(data)) == dnnl_success,
                "onednn: set handle failed");
  };
  set(impl_->a, a);
  set(impl_->b, b);
  set(impl_->c, c);
  set(impl_->scratch, scratch);
  if (impl_->num_args == 5) set(impl_->bias, bias);
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

bool onednn_has_bf16() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::sse41:
    case dnnl::cpu_isa::avx:
    case dnnl::cpu_isa::avx2:
    case dnnl::cpu_isa::avx2_vnni:
    case dnnl::cpu_isa::avx512_core:
    case dnnl::cpu_isa::avx512_core_vnni:
      return false;
    default:
      return true;
  }
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
