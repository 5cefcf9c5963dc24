// Heat conduction in a plate: the simulation that the surrogate learns.
//
//   -div(k grad u) = s  on the unit square,  u = 0 on its edge
//
// k, s and u are given at the centres of kCells x kCells cells. Conductivities differ from case to case by a factor of
// about ten, which is what makes u depend on k and s together, not on their sum.
#pragma once

#include <array>
#include <cstdint>

#include "core/base/rng.h"

namespace heat {

inline constexpr int kCells = 16;  // along each side
using Field = std::array<double, kCells * kCells>;

struct Case {
  Field conductivity{};  // W/(m K), above 0
  Field source{};        // W/m^2
};

// Case number `number` of a stream: a smooth random conductivity, and two random spots that are heated or cooled.
Case draw_case(const takt::RandomStream& random, std::int64_t number);

// The temperature in K above the edge's, by finite volumes (five points, harmonic means of the conductivity between
// cells: Patankar 1980, chapter 4), solved by conjugate gradients to a relative residual of 1e-10.
Field solve(const Case& conditions);

}  // namespace heat
