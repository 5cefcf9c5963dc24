// compare TRAIN UNSEEN PREDICTIONS.npy: how far predictions of unseen cases are from the simulation, beside what a linear
// model does that was fitted to the same training cases by least squares.
//
// The error is the relative L2 norm over all cases: |prediction - target| / |target|.
#include <cmath>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <span>
#include <vector>

#include "core/base/error.h"
#include "core/state/npy.h"

namespace {

// Rows of equal length. With a column of ones in front, where a linear model wants a constant.
struct Table {
  std::size_t num_rows = 0, num_columns = 0;
  std::vector<double> numbers = {};
  std::span<const double> row(std::size_t r) const {
    return std::span(numbers).subspan(r * num_columns, num_columns);
  }
};

Table read_table(const std::filesystem::path& path, bool with_ones) {
  const takt::NpyFile file(path);
  TAKT_REQUIRE(file.dtype() == takt::DType::kF32 && !file.shape().empty(), path.string(),
               ": wanted rows of f32");
  const std::span floats{reinterpret_cast<const float*>(file.elements().data()),
                         file.elements().size() / sizeof(float)};
  Table table{.num_rows = static_cast<std::size_t>(file.shape()[0])};
  const std::size_t width = floats.size() / table.num_rows;
  table.num_columns = width + (with_ones ? 1 : 0);
  for (std::size_t r = 0; r < table.num_rows; ++r) {
    if (with_ones) table.numbers.push_back(1);
    for (const float number : floats.subspan(r * width, width))
      table.numbers.push_back(static_cast<double>(number));
  }
  return table;
}

// Solves A X = B for a symmetric positive A, n x n, and B, n x m, which becomes X, by Cholesky's decomposition.
void solve_in_place(std::vector<double>& a, std::vector<double>& b, std::size_t n, std::size_t m) {
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j <= i; ++j) {
      double sum = a[i * n + j];
      for (std::size_t k = 0; k < j; ++k) sum -= a[i * n + k] * a[j * n + k];
      a[i * n + j] = i == j ? std::sqrt(sum) : sum / a[j * n + j];
    }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < i; ++k)
      for (std::size_t c = 0; c < m; ++c) b[i * m + c] -= a[i * n + k] * b[k * m + c];
    for (std::size_t c = 0; c < m; ++c) b[i * m + c] /= a[i * n + i];
  }
  for (std::size_t i = n; i-- > 0;) {
    for (std::size_t k = i + 1; k < n; ++k)
      for (std::size_t c = 0; c < m; ++c) b[i * m + c] -= a[k * n + i] * b[k * m + c];
    for (std::size_t c = 0; c < m; ++c) b[i * m + c] /= a[i * n + i];
  }
}

// Coefficients of least squares, a row an input. Inputs are smooth, so that many directions are empty: a ridge of 1e-6 of
// the mean diagonal keeps the matrix positive, and costs no accuracy that counts.
std::vector<double> fit(const Table& inputs, const Table& targets) {
  const std::size_t n = inputs.num_columns, m = targets.num_columns;
  std::vector<double> a(n * n), b(n * m);
  for (std::size_t r = 0; r < inputs.num_rows; ++r) {
    const std::span<const double> x = inputs.row(r), y = targets.row(r);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j <= i; ++j) a[i * n + j] += x[i] * x[j];
      for (std::size_t c = 0; c < m; ++c) b[i * m + c] += x[i] * y[c];
    }
  }
  double trace = 0;
  for (std::size_t i = 0; i < n; ++i) trace += a[i * n + i];
  for (std::size_t i = 0; i < n; ++i) a[i * n + i] += 1e-6 * trace / static_cast<double>(n);
  solve_in_place(a, b, n, m);
  return b;
}

Table predict(const std::vector<double>& coefficients, const Table& inputs) {
  const std::size_t m = coefficients.size() / inputs.num_columns;
  Table outputs{
      .num_rows = inputs.num_rows, .num_columns = m, .numbers = std::vector<double>(inputs.num_rows * m)};
  for (std::size_t r = 0; r < inputs.num_rows; ++r)
    for (std::size_t i = 0; i < inputs.num_columns; ++i)
      for (std::size_t c = 0; c < m; ++c)
        outputs.numbers[r * m + c] += inputs.row(r)[i] * coefficients[i * m + c];
  return outputs;
}

double relative_l2(const Table& found, const Table& wanted) {
  TAKT_REQUIRE(found.numbers.size() == wanted.numbers.size(), "the predictions have ", found.numbers.size(),
               " numbers, the targets ", wanted.numbers.size());
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < wanted.numbers.size(); ++i) {
    error += (found.numbers[i] - wanted.numbers[i]) * (found.numbers[i] - wanted.numbers[i]);
    norm += wanted.numbers[i] * wanted.numbers[i];
  }
  return std::sqrt(error / norm);
}

void compare(const std::filesystem::path& train, const std::filesystem::path& unseen,
             const std::filesystem::path& predictions) {
  const Table targets = read_table(unseen / "targets.npy", false);
  const auto linear = fit(read_table(train / "inputs.npy", true), read_table(train / "targets.npy", false));
  std::cout << std::fixed << std::setprecision(4) << "relative L2 error on " << targets.num_rows
            << " unseen cases\n  surrogate     " << relative_l2(read_table(predictions, false), targets)
            << "\n  linear model  "
            << relative_l2(predict(linear, read_table(unseen / "inputs.npy", true)), targets) << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: compare TRAIN UNSEEN PREDICTIONS.npy\n";
    return 64;
  }
  try {
    compare(argv[1], argv[2], argv[3]);
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
}
