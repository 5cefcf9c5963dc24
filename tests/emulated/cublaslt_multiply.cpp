// Operands are unpacked to row-major f32, multiplied, and the epilogue is applied element by element.
//
// GELU is the tanh approximation, as in cuBLASLt. CUBLAS_COMPUTE_32F_FAST_TF32 and _FAST_16BF round the operands first, so
// that who asks for them by mistake sees it in the error.
#include "tests/emulated/cublaslt_multiply.h"

#include <bit>
#include <cmath>
#include <cstddef>
#include <vector>

namespace takt::emulated {
namespace {

// Keeps the upper bits of the significand; to nearest, ties to even.
float rounded(float x, int dropped_bits) {
  const auto bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7F800000u) == 0x7F800000u) return x;
  const uint32_t half = (1u << (dropped_bits - 1)) - 1 + (bits >> dropped_bits & 1u);
  return std::bit_cast<float>((bits + half) >> dropped_bits << dropped_bits);
}

float element(const void* x, uint32_t type, int64_t i) {
  if (type == CUDA_R_32F) return static_cast<const float*>(x)[i];
  return std::bit_cast<float>(static_cast<uint32_t>(static_cast<const uint16_t*>(x)[i]) << 16);
}

void set_element(void* x, uint32_t type, int64_t i, float value) {
  if (type == CUDA_R_32F)
    static_cast<float*>(x)[i] = value;
  else if (std::isnan(value))
    static_cast<uint16_t*>(x)[i] = 0x7FC0;
  else
    static_cast<uint16_t*>(x)[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(rounded(value, 16)) >> 16);
}

template <class Pointer>
Pointer batch_of(Pointer x, uint32_t type, int64_t stride, int64_t batch) {
  using Byte = std::conditional_t<std::is_same_v<Pointer, void*>, std::byte, const std::byte>;
  return static_cast<Byte*>(x) + batch * stride * static_cast<int64_t>(element_bytes(type));
}

std::vector<float> unpacked(const MatmulProblem& p, const MatrixLayout& l, const void* x, bool transposed) {
  const int dropped = p.desc.compute_type == CUBLAS_COMPUTE_32F_FAST_TF32   ? 13
                      : p.desc.compute_type == CUBLAS_COMPUTE_32F_FAST_16BF ? 16
                                                                            : 0;
  const auto rows = static_cast<int64_t>(transposed ? l.cols : l.rows);
  const auto cols = static_cast<int64_t>(transposed ? l.rows : l.cols);
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(rows * cols));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      const float value = element(x, l.type, transposed ? l.at(c, r) : l.at(r, c));
      values.push_back(dropped == 0 ? value : rounded(value, dropped));
    }
  return values;
}

std::vector<float> product(const std::vector<float>& a, const std::vector<float>& b, int64_t m, int64_t n,
                           int64_t k) {
  std::vector<float> c(static_cast<std::size_t>(m * n));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t l = 0; l < k; ++l) {
      const float x = a[static_cast<std::size_t>(i * k + l)];
      const float* row = b.data() + l * n;
      float* sums = c.data() + i * n;
      for (int64_t j = 0; j < n; ++j) sums[j] += x * row[j];
    }
  return c;
}

constexpr float kScale = 0.7978845608028654f;  // sqrt(2 / pi)
constexpr float kCubic = 0.044715f;

float gelu(float x) {
  return 0.5f * x * (1 + std::tanh(kScale * (x + kCubic * x * x * x)));
}
float gelu_slope(float x) {
  const float t = std::tanh(kScale * (x + kCubic * x * x * x));
  return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * kScale * (1 + 3 * kCubic * x * x);
}

// What the epilogue makes of one element, and what it leaves in aux.
float after_epilogue(const MatmulProblem& p, float x, const void* bias, void* aux, int64_t row,
                     int64_t column) {
  const int64_t at_aux = column * p.desc.aux_ld + row;
  if (p.reads_bias()) x += element(bias, p.bias_type(), row);
  if (p.has(CUBLASLT_EPILOGUE_DGELU)) return x * gelu_slope(element(aux, p.aux_type(), at_aux));
  if (p.has(CUBLASLT_EPILOGUE_GELU_AUX)) set_element(aux, p.aux_type(), at_aux, x);
  if (p.has(CUBLASLT_EPILOGUE_GELU)) return gelu(x);
  if (p.has(CUBLASLT_EPILOGUE_RELU)) return x > 0 ? x : 0;
  return x;
}

// One batch; the vector is what is added up for a gradient of the bias.
std::vector<float> multiply_batch(const MatmulProblem& p, const MatmulPointers& at, int64_t batch,
                                  void* bias) {
  const bool ta = p.desc.transpose_a != CUBLAS_OP_N, tb = p.desc.transpose_b != CUBLAS_OP_N;
  const int64_t m = p.m(), n = p.n(), k = p.k();
  const std::vector<float> a = unpacked(p, p.a, batch_of(at.a, p.a.type, p.a.batch_stride, batch), ta);
  const std::vector<float> b = unpacked(p, p.b, batch_of(at.b, p.b.type, p.b.batch_stride, batch), tb);
  const std::vector<float> sums = product(a, b, m, n, k);
  const void* c = batch_of(at.c, p.c.type, p.c.batch_stride, batch);
  void* d = batch_of(at.d, p.d.type, p.d.batch_stride, batch);
  void* aux = batch_of(p.desc.aux, p.aux_type(), p.desc.aux_batch_stride, batch);
  std::vector<float> gradient(static_cast<std::size_t>(p.bias_length()));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      float x = at.alpha * sums[static_cast<std::size_t>(i * n + j)];
      if (at.beta != 0) x += at.beta * element(c, p.c.type, p.c.at(i, j));
      x = after_epilogue(p, x, bias, aux, i, j);
      if (p.has(CUBLASLT_EPILOGUE_DGELU_BGRAD)) gradient[static_cast<std::size_t>(i)] += x;
      set_element(d, p.d.type, p.d.at(i, j), x);
    }
  for (int64_t i = 0; p.has(CUBLASLT_EPILOGUE_BGRADA) && i < m * k; ++i)
    gradient[static_cast<std::size_t>(i / k)] += a[static_cast<std::size_t>(i)];
  for (int64_t i = 0; p.has(CUBLASLT_EPILOGUE_BGRADB) && i < k * n; ++i)
    gradient[static_cast<std::size_t>(i % n)] += b[static_cast<std::size_t>(i)];
  return gradient;
}

}  // namespace

void multiply(const MatmulProblem& p, const MatmulPointers& at) {
  for (int64_t batch = 0; batch < p.d.num_batches; ++batch) {
    void* bias = batch_of(p.desc.bias, p.bias_type(), p.desc.bias_batch_stride, batch);
    const std::vector<float> gradient = multiply_batch(p, at, batch, bias);
    for (std::size_t i = 0; p.writes_bias() && i < gradient.size(); ++i)
      set_element(bias, p.bias_type(), static_cast<int64_t>(i), gradient[i]);
  }
}

}  // namespace takt::emulated
