// The matrix is never stored: its five diagonals follow from the conductivities.
#include "examples/surrogate/heat.h"

#include <cmath>
#include <numbers>

namespace heat {
namespace {

constexpr double kWidth = 1.0 / kCells;

std::size_t at(int row, int column) {
  return static_cast<std::size_t>(row * kCells + column);
}

double harmonic_mean(double a, double b) {
  return 2 * a * b / (a + b);
}

// What flows out of every cell, in W/m^2 of its area.
Field outflow(const Field& k, const Field& u) {
  Field out{};
  constexpr std::array<std::array<int, 2>, 4> kNeighbours = {{{-1, 0}, {1, 0}, {0, -1}, {0, 1}}};
  for (int row = 0; row < kCells; ++row)
    for (int column = 0; column < kCells; ++column)
      for (const auto& [down, right] : kNeighbours) {
        const int r = row + down, c = column + right;
        const std::size_t here = at(row, column);
        const bool is_edge = r < 0 || r >= kCells || c < 0 || c >= kCells;
        // The edge, at temperature 0, is half a cell away.
        out[here] +=
            is_edge ? 2 * k[here] * u[here] : harmonic_mean(k[here], k[at(r, c)]) * (u[here] - u[at(r, c)]);
      }
  for (double& flow : out) flow /= kWidth * kWidth;
  return out;
}

double dot(const Field& a, const Field& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// y += factor x
void add(Field& y, double factor, const Field& x) {
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += factor * x[i];
}

// Numbers of one case, drawn one after the other.
class Draws {
 public:
  Draws(const takt::RandomStream& random, std::int64_t number)
      : random_(random), next_(static_cast<std::uint64_t>(number) * kMostDraws) {}
  double uniform(double low, double high) { return low + (high - low) * random_.uniform(next_++); }
  double normal() { return static_cast<double>(random_.normal(next_++)); }

 private:
  static constexpr std::uint64_t kMostDraws = 64;
  const takt::RandomStream& random_;
  std::uint64_t next_;
};

}  // namespace

Case draw_case(const takt::RandomStream& random, std::int64_t number) {
  constexpr std::array<std::array<int, 2>, 5> kModes = {{{1, 0}, {0, 1}, {1, 1}, {2, 0}, {0, 2}}};
  Draws draws(random, number);
  std::array<double, kModes.size()> amplitudes{};
  for (double& amplitude : amplitudes) amplitude = 0.5 * draws.normal();
  struct Spot {
    double x, y, radius, power;
  };
  std::array<Spot, 2> spots{};
  for (Spot& spot : spots)
    spot = {draws.uniform(0.2, 0.8), draws.uniform(0.2, 0.8), draws.uniform(0.1, 0.2), 100 * draws.normal()};
  Case conditions;
  for (int row = 0; row < kCells; ++row)
    for (int column = 0; column < kCells; ++column) {
      const double x = (column + 0.5) * kWidth, y = (row + 0.5) * kWidth;
      double exponent = 0;
      for (std::size_t m = 0; m < kModes.size(); ++m)
        exponent += amplitudes[m] * std::cos(std::numbers::pi * kModes[m][0] * x) *
                    std::cos(std::numbers::pi * kModes[m][1] * y);
      conditions.conductivity[at(row, column)] = std::exp(exponent);
      for (const Spot& spot : spots)
        conditions.source[at(row, column)] +=
            spot.power * std::exp(-((x - spot.x) * (x - spot.x) + (y - spot.y) * (y - spot.y)) /
                                  (2 * spot.radius * spot.radius));
    }
  return conditions;
}

Field solve(const Case& conditions) {
  constexpr double kResidual = 1e-10;
  constexpr int kMostIterations = 10 * kCells * kCells;
  Field u{}, residual = conditions.source, direction = residual;
  const double wanted = kResidual * kResidual * dot(residual, residual);
  double squares = dot(residual, residual);
  for (int i = 0; i < kMostIterations && squares > wanted; ++i) {
    const Field flow = outflow(conditions.conductivity, direction);
    const double step = squares / dot(direction, flow);
    add(u, step, direction);
    add(residual, -step, flow);
    const double before = squares;
    squares = dot(residual, residual);
    for (std::size_t j = 0; j < direction.size(); ++j)
      direction[j] = residual[j] + squares / before * direction[j];
  }
  return u;
}

}  // namespace heat
