// Rates are round numbers.
#include "core/train/step_estimate.h"

#include <algorithm>
#include <vector>

namespace takt {
namespace {

// Do the ranks of a group along these axes lie near each other? They do if all mesh axes from the first of them on make
// no more ranks than are near.
bool is_near(const Mesh& mesh, const std::string& mesh_axes, std::int64_t num_neighbours) {
  std::int64_t reach = 1;
  bool is_spanned = false;
  for (const MeshAxis& axis : mesh.axes) {
    is_spanned = is_spanned || ("+" + mesh_axes + "+").find("+" + axis.name.str() + "+") != std::string::npos;
    if (is_spanned) reach *= axis.size;
  }
  return reach <= num_neighbours;
}

double estimated_s(const Program& program, const Mesh& mesh, const StepRates& rates) {
  const ProgramCost cost = cost_of(program);
  double seconds = cost.flops / rates.flops;
  for (const ProgramCost::Traffic& traffic : cost.traffic) {
    const double bytes = static_cast<double>(traffic.num_bytes) * (traffic.op == "all_reduce" ? 2 : 1);
    const bool near = is_near(mesh, traffic.mesh_axes, rates.num_neighbours);
    seconds += bytes / (near ? rates.bytes_near : rates.bytes_far) +
               static_cast<double>(traffic.num_calls) * rates.call_s;
  }
  return seconds;
}

}  // namespace

StepRates typical_rates(const RankDevice& device) {
  if (device.kind == DeviceKind::kCuda)
    return {.flops = 5e14, .bytes_near = 4e11, .bytes_far = 4e10, .call_s = 1e-5, .num_neighbours = 8};
  return {.flops = 5e10 * device.num_threads,
          .bytes_near = 4e9,
          .bytes_far = 1e9,
          .call_s = 2e-5,
          .num_neighbours = 64};
}

double estimated_step_s(const StepPlan& plan, const StepRates& rates) {
  std::vector<double> by_program;
  for (const Program& program : plan.programs) by_program.push_back(estimated_s(program, plan.mesh, rates));
  double seconds = 0;
  for (const Action& action : plan.step)
    if (action.kind == Action::Kind::kRun) seconds += by_program[static_cast<std::size_t>(action.program)];
  return seconds;
}

}  // namespace takt
