// The contact with oneDNN: products in every dtype, in scratch that we give it.
#include "core/device/onednn.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/base/bf16.h"

namespace takt {
namespace {

// Running writes the addresses of the tensors into the object: a const one could be shared by two threads.
template <class T>
concept CanRun = requires(T& product) {
  product.run(nullptr, nullptr, nullptr, nullptr, nullptr);
};
static_assert(CanRun<OnednnMatmul>);
static_assert(!CanRun<const OnednnMatmul>);

struct alignas(64) Line {
  std::byte bytes[64];
};

// C[i, j] = sum_k (i + 1) (j + 2) + 3, in which every number is exact in bf16 (A, B) and f32 (C).
template <class T>
void expect_product(const MatmulShape& shape, int num_threads) {
  OnednnMatmul product(shape, num_threads);
  const auto m = static_cast<std::size_t>(shape.m), n = static_cast<std::size_t>(shape.n),
             k = static_cast<std::size_t>(shape.k);
  std::vector<T> a(m * k), b(k * n);
  for (std::size_t i = 0; i < m * k; ++i) a[i] = stored<T>(static_cast<float>(i / k % 8 + 1));
  for (std::size_t i = 0; i < k * n; ++i)
    b[i] = stored<T>(static_cast<float>((shape.transpose_b ? i / k : i % n) % 8 + 2));
  const std::vector<float> bias(n, 3.0f);
  std::vector<float> c(m * n, -1.0f);
  constexpr std::byte kGuard{0x5A};
  std::vector<Line> scratch(product.scratch_bytes() / sizeof(Line) + 2);
  scratch.back().bytes[63] = kGuard;
  product.run(a.data(), b.data(), bias.data(), c.data(), scratch.data());
  EXPECT_EQ(scratch.back().bytes[63], kGuard) << "wrote past its scratch";
  for (std::size_t i = 0; i < m * n; ++i)
    ASSERT_EQ(c[i], static_cast<float>(k * (i / n % 8 + 1) * (i % n % 8 + 2) + 3)) << "element " << i;
}

TEST(OnednnMatmul, MultipliesInScratchOfItsCaller) {
  for (const int num_threads : {1, 2})
    for (const bool transpose_b : {false, true}) {
      const MatmulShape shape{.m = 33, .n = 70, .k = 129, .transpose_b = transpose_b, .has_bias = true};
      expect_product<float>(shape, num_threads);
    }
}

TEST(OnednnMatmul, MultipliesBF16IntoF32) {
  if (!onednn_has_bf16()) GTEST_SKIP() << "this processor has no bf16 instructions";
  for (const int num_threads : {1, 2})
    for (const bool transpose_b : {false, true}) {
      const MatmulShape shape{
          .m = 33, .n = 70, .k = 129, .transpose_b = transpose_b, .has_bias = true, .dtype = DType::kBF16};
      expect_product<BF16>(shape, num_threads);
    }
}

}  // namespace
}  // namespace takt
