// make_cases FOLDER FIRST NUM: simulates NUM cases from number FIRST on and writes them as takt train reads them.
//   FOLDER/inputs.npy   f32 [NUM, 2, kCells, kCells]: conductivity, source
//   FOLDER/targets.npy  f32 [NUM, kCells, kCells]: temperature
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "core/state/npy.h"
#include "examples/surrogate/heat.h"

namespace {

void append(std::vector<float>& numbers, const heat::Field& field) {
  for (const double number : field) numbers.push_back(static_cast<float>(number));
}

void make_cases(const std::filesystem::path& folder, std::int64_t first, std::int64_t num_cases) {
  const takt::RandomStream random(1, "heat");
  std::vector<float> inputs, targets;
  for (std::int64_t i = first; i < first + num_cases; ++i) {
    const heat::Case conditions = heat::draw_case(random, i);
    append(inputs, conditions.conductivity);
    append(inputs, conditions.source);
    append(targets, heat::solve(conditions));
  }
  std::filesystem::create_directories(folder);
  const std::int64_t input_shape[] = {num_cases, 2, heat::kCells, heat::kCells};
  const std::int64_t target_shape[] = {num_cases, heat::kCells, heat::kCells};
  takt::write_npy(folder / "inputs.npy", takt::DType::kF32, input_shape, std::as_bytes(std::span(inputs)));
  takt::write_npy(folder / "targets.npy", takt::DType::kF32, target_shape, std::as_bytes(std::span(targets)));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: make_cases FOLDER FIRST NUM\n";
    return 64;
  }
  try {
    make_cases(argv[1], std::stoll(argv[2]), std::stoll(argv[3]));
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
}
