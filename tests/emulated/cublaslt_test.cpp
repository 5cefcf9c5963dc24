// The cuBLASLt double against plain loops in double precision, and what it refuses.
#include <cublasLt.h>

#include <cmath>

#include "tests/emulated/cublaslt_for_tests.h"

namespace takt::emulated::test {
namespace {

double gelu(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
double gelu_slope(double x) {
  const double h = 1e-5;
  return (gelu(x + h) - gelu(x - h)) / (2 * h);
}

class CublasLtDouble : public EmulatedTest {
 protected:
  void SetUp() override {
    EmulatedTest::SetUp();
    EXPECT_BLAS(cublasLtCreate(&handle_));
  }
  void TearDown() override {
    cublasLtDestroy(handle_);
    EmulatedTest::TearDown();
  }

  // Runs algorithm number `number` and compares all that it writes. `tolerance`: of the largest possible element, k.
  void expect_product(const Product& p, double tolerance, int number = 0);
  cublasLtHandle_t handle_ = nullptr;
};

// One element before the epilogue.
double plain(const Product& p, const std::vector<float>& a, const std::vector<float>& b, std::size_t batch,
             int64_t i, int64_t j) {
  double sum = 0;
  for (int64_t l = 0; l < p.k; ++l) {
    const int64_t at_a = p.transpose_a ? i * p.ld_a() + l : l * p.ld_a() + i;
    const int64_t at_b = p.transpose_b ? l * p.ld_b() + j : j * p.ld_b() + l;
    sum += static_cast<double>(a[batch * p.size_a() + static_cast<std::size_t>(at_a)]) *
           static_cast<double>(b[batch * p.size_b() + static_cast<std::size_t>(at_b)]);
  }
  return sum;
}

struct Before {
  const std::vector<float>&a, &b, &c, &bias, &aux;
};
struct After {
  const std::vector<float>&d, &bias, &aux;
};

// Compares one batch; the sums over its rows.
std::vector<double> expect_batch(const Product& p, std::size_t batch, double bound, const Before& in,
                                 const After& out) {
  std::vector<double> gradient(static_cast<std::size_t>(p.m));
  for (int64_t i = 0; i < p.m; ++i)
    for (int64_t j = 0; j < p.n; ++j) {
      const std::size_t at = batch * p.size_d() + static_cast<std::size_t>(j * p.ld_d() + i);
      const auto at_aux = static_cast<std::size_t>(j * p.ld_aux() + i);
      double x = static_cast<double>(p.alpha) * plain(p, in.a, in.b, batch, i, j) +
                 static_cast<double>(p.beta) * static_cast<double>(in.c[at]);
      if (p.epilogue & CUBLASLT_EPILOGUE_BIAS) x += static_cast<double>(in.bias[static_cast<std::size_t>(i)]);
      if (p.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS) {
        EXPECT_NEAR(static_cast<double>(out.aux[at_aux]), x, bound);
      }
      if (p.epilogue & CUBLASLT_EPILOGUE_RELU) x = std::max(x, 0.0);
      if (p.epilogue & CUBLASLT_EPILOGUE_GELU) x = gelu(x);
      if (p.epilogue & 64) x *= gelu_slope(static_cast<double>(in.aux[at_aux]));
      gradient[static_cast<std::size_t>(i)] += x;
      EXPECT_NEAR(static_cast<double>(out.d[at]), x, bound)
          << "row " << i << ", column " << j << ", batch " << batch;
    }
  return gradient;
}

void CublasLtDouble::expect_product(const Product& p, double tolerance, int number) {
  const auto batches = static_cast<std::size_t>(p.num_batches);
  const std::vector<float> a = random_values(batches * p.size_a(), 1),
                           b = random_values(batches * p.size_b(), 2),
                           c = random_values(batches * p.size_d(), 3),
                           bias = random_values(static_cast<std::size_t>(std::max(p.m, p.n)), 4),
                           aux = random_values(static_cast<std::size_t>(p.ld_aux() * p.n), 5);
  const Matrix on_a(a, p.bf16), on_b(b, p.bf16), on_d(c, p.bf16_result), on_bias(bias, p.bf16_result),
      on_aux(aux, p.bf16_result);
  Descriptors with(p);
  with.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, on_bias.data());
  with.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, on_aux.data());
  with.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.ld_aux());
  cublasLtMatmulHeuristicResult_t results[8];
  int num_found = 0;
  ASSERT_EQ(with.heuristic(8, results, &num_found), CUBLAS_STATUS_SUCCESS) << last_matmul_refusal();
  ASSERT_GT(num_found, number);
  const StreamOwner stream;
  const DeviceBuffer<uint8_t> workspace(8192);
  EXPECT_BLAS(cublasLtMatmul(handle_, with.desc, &p.alpha, on_a.data(), with.a, on_b.data(), with.b, &p.beta,
                             on_d.data(), with.d, on_d.data(), with.d, &results[number].algo, workspace.get(),
                             workspace.num_bytes(), stream));
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  const std::vector<float> d = on_d.values(), bias_after = on_bias.values(), aux_after = on_aux.values();
  const double bound = tolerance * static_cast<double>(p.k);
  for (std::size_t batch = 0; batch < batches; ++batch) {
    const std::vector<double> gradient =
        expect_batch(p, batch, bound, {a, b, c, bias, aux}, {d, bias_after, aux_after});
    for (std::size_t i = 0; p.epilogue == CUBLASLT_EPILOGUE_DGELU_BGRAD && i < gradient.size(); ++i)
      EXPECT_NEAR(static_cast<double>(bias_after[i]), gradient[i], bound * static_cast<double>(p.n));
  }
  for (std::size_t i = 0; i < d.size(); ++i) {
    const bool beside = i % static_cast<std::size_t>(p.ld_d()) >= static_cast<std::size_t>(p.m);
    EXPECT_TRUE(!beside || d[i] == c[i]) << "beside the matrix, element " << i;
  }
}

constexpr double kF32 = 1e-7,
                 kBF16 = 0x1p-9;  // a sum's roundings; the result's rounding, of numbers up to k / 2

TEST_F(CublasLtDouble, MultipliesInEveryTransposition) {
  for (const bool a : {false, true})
    for (const bool b : {false, true}) {
      expect_product({.transpose_a = a, .transpose_b = b}, kF32);
      expect_product({.transpose_a = a, .transpose_b = b, .bf16 = true}, kF32);
      expect_product({.transpose_a = a, .transpose_b = b, .bf16 = true, .bf16_result = true}, kBF16);
    }
}

TEST_F(CublasLtDouble, ScalesAddsAndBatches) {
  expect_product({.num_batches = 3, .alpha = 0.5f, .beta = 2.0f}, kF32);
  expect_product({.num_batches = 2, .bf16 = true, .bf16_result = true, .beta = 1.0f}, kBF16);
}

TEST_F(CublasLtDouble, AppliesEpilogues) {
  for (const uint32_t epilogue :
       {CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_RELU, CUBLASLT_EPILOGUE_RELU_BIAS, CUBLASLT_EPILOGUE_GELU,
        CUBLASLT_EPILOGUE_GELU_BIAS, CUBLASLT_EPILOGUE_GELU_AUX_BIAS, CUBLASLT_EPILOGUE_DGELU,
        CUBLASLT_EPILOGUE_DGELU_BGRAD}) {
    expect_product({.epilogue = epilogue}, kF32);
    expect_product({.bf16 = true, .bf16_result = true, .epilogue = epilogue}, kBF16);
  }
}

TEST_F(CublasLtDouble, AddsUpGradientsOfABias) {
  const Product p{.transpose_b = true, .epilogue = CUBLASLT_EPILOGUE_BGRADB};
  const std::vector<float> a = random_values(p.size_a(), 1), b = random_values(p.size_b(), 2);
  for (const uint32_t epilogue : {CUBLASLT_EPILOGUE_BGRADA, CUBLASLT_EPILOGUE_BGRADB}) {
    const Matrix on_a(a, false), on_b(b, false), on_d(std::vector<float>(p.size_d()), false),
        gradient(std::vector<float>(32, -1.0f), false);
    Product wanted = p;
    wanted.epilogue = epilogue;
    Descriptors with(wanted);
    with.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, gradient.data());
    const StreamOwner stream;
    EXPECT_BLAS(cublasLtMatmul(handle_, with.desc, &p.alpha, on_a.data(), with.a, on_b.data(), with.b,
                               &p.beta, on_d.data(), with.d, on_d.data(), with.d, nullptr, nullptr, 0,
                               stream));
    EXPECT_CUDA(cudaStreamSynchronize(stream));
    const bool of_a = epilogue == CUBLASLT_EPILOGUE_BGRADA;
    for (int64_t i = 0; i < (of_a ? p.m : p.n); ++i) {
      double sum = 0;
      for (int64_t l = 0; l < p.k; ++l)
        sum += static_cast<double>(of_a ? a[static_cast<std::size_t>(l * p.ld_a() + i)]
                                        : b[static_cast<std::size_t>(l * p.ld_b() + i)]);
      EXPECT_NEAR(static_cast<double>(gradient.values()[static_cast<std::size_t>(i)]), sum, 1e-5) << epilogue;
    }
  }
}

TEST_F(CublasLtDouble, OffersAlgorithmsThatAgreeAndRespectTheWorkspace) {
  const Descriptors with(Product{});
  cublasLtMatmulHeuristicResult_t results[8];
  int num_found = 0;
  ASSERT_EQ(with.heuristic(8, results, &num_found), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(num_found, 2);  // the third wants more than 8192 bytes
  for (int i = 0; i < num_found; ++i) {
    EXPECT_LE(results[i].workspaceSize, 8192u);
    cublasLtMatmulHeuristicResult_t checked;
    EXPECT_BLAS(cublasLtMatmulAlgoCheck(handle_, with.desc, with.a, with.b, with.d, with.d, &results[i].algo,
                                        &checked));
    EXPECT_EQ(checked.workspaceSize, results[i].workspaceSize);
    expect_product({}, kF32, i);
  }
}

TEST_F(CublasLtDouble, FastComputeTypesRoundTheOperands) {
  const std::vector<float> x = {1.0f + 0x1p-20f}, y = {1.0f};
  const Product p{.m = 1, .n = 1, .k = 1, .compute = CUBLAS_COMPUTE_32F_FAST_TF32};
  std::vector<float> padded_x(p.size_a(), x[0]), padded_y(p.size_b(), y[0]);
  const Matrix a(padded_x, false), b(padded_y, false), d(std::vector<float>(p.size_d()), false);
  const Descriptors with(p);
  const StreamOwner stream;
  EXPECT_BLAS(cublasLtMatmul(handle_, with.desc, &p.alpha, a.data(), with.a, b.data(), with.b, &p.beta,
                             d.data(), with.d, d.data(), with.d, nullptr, nullptr, 0, stream));
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(d.values()[0], 1.0f);
}

TEST_F(CublasLtDouble, RefusesWhatIsNotDocumented) {
  const auto refusal = [](const Product& p, auto change) {
    Descriptors with(p);
    change(with);
    cublasLtMatmulHeuristicResult_t result;
    int num_found = -1;
    EXPECT_NE(with.heuristic(1, &result, &num_found), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(num_found, 0);
    return last_matmul_refusal();
  };
  const auto nothing = [](Descriptors&) {};
  EXPECT_THAT(refusal({.bf16_result = true}, nothing), testing::HasSubstr("with operands"));
  EXPECT_THAT(refusal({.epilogue = CUBLASLT_EPILOGUE_BIAS}, nothing),
              testing::HasSubstr("without a bias pointer"));
  EXPECT_THAT(refusal({.epilogue = CUBLASLT_EPILOGUE_RELU_AUX}, nothing),
              testing::HasSubstr("not on the list"));
  const auto f32_bias = [](Descriptors& with) {
    static const int32_t type = CUDA_R_32F;
    with.set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type);
    with.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, reinterpret_cast<void*>(256));
  };
  EXPECT_THAT(refusal({.bf16 = true, .bf16_result = true, .epilogue = CUBLASLT_EPILOGUE_BIAS}, f32_bias),
              testing::HasSubstr("a bias of type"));
  const auto row_major = [](Descriptors& with) {
    const int32_t order = CUBLASLT_ORDER_ROW;
    const int64_t ld = 32;
    EXPECT_BLAS(cublasLtMatrixLayoutSetAttribute(with.d, CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof order));
    EXPECT_BLAS(cublasLtMatrixLayoutSetAttribute(with.d, CUBLASLT_MATRIX_LAYOUT_LD, &ld, sizeof ld));
  };
  EXPECT_THAT(refusal({.epilogue = CUBLASLT_EPILOGUE_GELU}, row_major), testing::HasSubstr("row-major D"));
}

TEST_F(CublasLtDouble, AnAttributeHasItsSize) {
  const Descriptors with(Product{});
  const int64_t too_wide = 1;
  EXPECT_EQ(
      cublasLtMatmulDescSetAttribute(with.desc, CUBLASLT_MATMUL_DESC_TRANSA, &too_wide, sizeof too_wide),
      CUBLAS_STATUS_INVALID_VALUE);
  expect_diagnosis("got 8 bytes, wanted 4");
}

TEST_F(CublasLtDouble, FindsPointersThatTheAlgorithmWasNotAskedFor) {
  const Product p{};
  const Matrix a(random_values(p.size_a() + 4, 1), false), b(random_values(p.size_b(), 2), false),
      d(std::vector<float>(p.size_d()), false);
  const Descriptors with(p);
  cublasLtMatmulHeuristicResult_t result;
  int num_found = 0;
  ASSERT_EQ(with.heuristic(1, &result, &num_found), CUBLAS_STATUS_SUCCESS);
  const StreamOwner stream;
  const auto run = [&](const void* from_a, const void* from_b) {
    return cublasLtMatmul(handle_, with.desc, &p.alpha, from_a, with.a, from_b, with.b, &p.beta, d.data(),
                          with.d, d.data(), with.d, &result.algo, nullptr, 0, stream);
  };
  EXPECT_EQ(run(static_cast<float*>(a.data()) + 4, b.data()), CUBLAS_STATUS_INVALID_VALUE);
  expect_diagnosis("matrix A is not aligned to the 256 bytes");
  EXPECT_EQ(run(a.data(), static_cast<float*>(b.data()) + 64), CUBLAS_STATUS_INVALID_VALUE);
  expect_diagnosis("cublasLtMatmul");
  std::vector<float> pageable(p.size_b());
  EXPECT_EQ(run(a.data(),
                reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(pageable.data()) + 255) / 256 * 256)),
            CUBLAS_STATUS_INVALID_VALUE);
  expect_diagnosis("cublasLtMatmul");
}

TEST_F(CublasLtDouble, WorkspaceIsScratch) {
  const Product p{};
  const Matrix a(random_values(p.size_a(), 1), false), b(random_values(p.size_b(), 2), false),
      d(std::vector<float>(p.size_d()), false);
  const Descriptors with(p);
  const StreamOwner stream;
  const DeviceBuffer<float> workspace(std::vector<float>(64, 1.0f));
  EXPECT_BLAS(cublasLtMatmul(handle_, with.desc, &p.alpha, a.data(), with.a, b.data(), with.b, &p.beta,
                             d.data(), with.d, d.data(), with.d, nullptr, workspace.get(),
                             workspace.num_bytes(), stream));
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  for (const float x : workspace.values()) EXPECT_TRUE(std::isnan(x));
}

TEST_F(CublasLtDouble, FailsOnDemand) {
  inject("cublasLtCreate", CUBLAS_STATUS_ALLOC_FAILED);
  cublasLtHandle_t handle = nullptr;
  EXPECT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_ALLOC_FAILED);
  inject("cublasLtMatmulAlgoGetHeuristic", CUBLAS_STATUS_NOT_SUPPORTED);
  const Descriptors with(Product{});
  cublasLtMatmulHeuristicResult_t result;
  int num_found = 0;
  EXPECT_EQ(with.heuristic(1, &result, &num_found), CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(with.heuristic(1, &result, &num_found), CUBLAS_STATUS_SUCCESS);
}

}  // namespace
}  // namespace takt::emulated::test
