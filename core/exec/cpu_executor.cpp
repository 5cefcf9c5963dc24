// The CPU executor: all decisions are in the plan; here addresses are filled in and kernels called in order.
#include "core/exec/cpu_executor.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>

#include "core/base/units.h"
#include "core/device/onednn.h"
#include "core/passes/shard_ranges.h"

namespace takt {

void CpuExecutor::FreeArena::operator()(std::byte* arena) const {
  std::free(arena);
}

CpuExecutor::CpuExecutor(const StepPlan& plan, int rank, MeshGroups groups)
    : plan_(plan), coordinates_(plan.mesh.coordinates(rank)) {
  const std::size_t num_bytes = std::max(arena_bytes(), kArenaAlignment);
  arena_.reset(static_cast<std::byte*>(std::aligned_alloc(kArenaAlignment, num_bytes)));
  if (arena_ == nullptr)
    fail(Fault::kMemory, "the step needs ", format_gib(num_bytes), " a rank, which this host does not give");
  std::memset(arena_.get(), 0,
              num_bytes);  // padding must be zero, and every page is there before the first step
  set_cpu_threads(plan.num_threads);
  for (std::size_t p = 0; p < plan.programs.size(); ++p) {
    std::vector<Step>& steps = programs_.emplace_back();
    for (std::size_t n = 0; n < plan.programs[p].graph.nodes().size(); ++n)
      steps.push_back(prepare(p, n, groups));
  }
  std::set<std::string> seen;
  for (const Program& program : plan.programs)
    for (const Value& value : program.graph.values())
      if (value.role == Role::kAccumulator && seen.insert(value.name).second)
        accumulators_.push_back(persistent(value.name));
}

CpuExecutor::~CpuExecutor() = default;

std::size_t CpuExecutor::arena_bytes() const {
  return plan_.arena.num_bytes();
}

std::byte* CpuExecutor::address(std::size_t program, ValueId value) const {
  return arena_.get() + plan_.arena.programs[program].value_offsets[static_cast<std::size_t>(value.index)];
}

CpuExecutor::Step CpuExecutor::prepare(std::size_t program, std::size_t n, const MeshGroups& groups) const {
  const Graph& graph = plan_.programs[program].graph;
  const Node& node = graph.nodes()[n];
  TAKT_ASSERT(node.op->cpu != nullptr, "op ", node.op->name, " has no CPU kernel");
  CpuNode view{graph.args_of(node)};
  view.ranges = axis_ranges(graph, node, plan_.mesh, coordinates_);
  view.num_threads = plan_.num_threads;
  if (!node.mesh_axis.empty())
    view.group = groups.at(static_cast<std::size_t>(plan_.mesh.find(node.mesh_axis)));
  TAKT_ASSERT(!node.op->is_collective || view.group != nullptr, "no communicator for mesh axis '",
              node.mesh_axis, "'");
  Step step{
      .kernel = node.op->cpu(view), .inputs = {}, .outputs = {}, .is_collective = node.op->is_collective};
  for (const ValueId id : node.inputs) step.inputs.push_back(address(program, id));
  for (const ValueId id : node.outputs) step.outputs.push_back(address(program, id));
  step.scratch = arena_.get() + plan_.arena.programs[program].scratch_offsets[n];
  step.padding = padding_of(program, node);
  return step;
}

std::vector<CpuExecutor::Padding> CpuExecutor::padding_of(std::size_t program, const Node& node) const {
  std::vector<Padding> padding;
  for (const ValueId id : node.outputs) {
    const Value& value = plan_.programs[program].graph.value(id);
    std::int64_t rows = 1, rest = value.desc.num_elements();
    for (std::size_t d = 0; d < value.desc.dims.size(); ++d) {
      const std::int64_t extent = value.desc.dims[d].extent, inner = rest / extent;
      const AxisRange range = range_of(value, d, plan_.mesh, coordinates_);
      if (range.num_valid < extent)
        padding.push_back(
            {reinterpret_cast<float*>(address(program, id)), rows, rest, range.num_valid * inner});
      rows *= extent;
      rest = inner;
    }
  }
  return padding;
}

void CpuExecutor::Padding::clear() const {
  for (std::int64_t row = 0; row < rows; ++row)
    std::fill(data + row * columns + first, data + (row + 1) * columns, 0.0f);
}

void CpuExecutor::run(std::size_t program) {
  using Clock = std::chrono::steady_clock;
  set_cpu_threads(plan_.num_threads);
  for (const Step& step : programs_[program]) {
    const Clock::time_point start = step.is_collective ? Clock::now() : Clock::time_point();
    step.kernel({step.inputs, step.outputs, step.scratch});
    for (const Padding& padding : step.padding) padding.clear();  // sums over a padded axis count on zeros
    if (step.is_collective) collective_time_s_ += std::chrono::duration<double>(Clock::now() - start).count();
  }
}

void CpuExecutor::zero_accumulators() {
  for (const std::span<float> buffer : accumulators_) std::memset(buffer.data(), 0, buffer.size_bytes());
}

ValueId CpuExecutor::find(std::size_t program, std::string_view name) const {
  const auto id = plan_.programs.at(program).graph.find(name);
  TAKT_ASSERT(id.has_value(), "program '", plan_.programs[program].name, "' has no value '", name, "'");
  return *id;
}

std::span<float> CpuExecutor::persistent(std::string_view name) {
  for (std::size_t p = 0; p < plan_.programs.size(); ++p)
    for (std::size_t v = 0; v < plan_.programs[p].graph.values().size(); ++v) {
      const Value& value = plan_.programs[p].graph.values()[v];
      if (!is_persistent(value.role) || value.name != name) continue;
      return {reinterpret_cast<float*>(address(p, {static_cast<int>(v)})),
              static_cast<std::size_t>(value.desc.num_elements())};
    }
  fail(Fault::kBug, "no persistent value '", name, "'");
}

std::span<std::int32_t> CpuExecutor::tokens(std::size_t program, std::string_view input) {
  const ValueId id = find(program, input);
  const TensorDesc& desc = plan_.programs[program].graph.value(id).desc;
  TAKT_ASSERT(desc.dtype == DType::kI32, "'", input, "' is ", desc);
  return {reinterpret_cast<std::int32_t*>(address(program, id)),
          static_cast<std::size_t>(desc.num_elements())};
}

std::span<float> CpuExecutor::scalars(std::size_t program, std::string_view input) {
  const ValueId id = find(program, input);
  const TensorDesc& desc = plan_.programs[program].graph.value(id).desc;
  TAKT_ASSERT(desc.dtype == DType::kF32, "'", input, "' is ", desc);
  return {reinterpret_cast<float*>(address(program, id)), static_cast<std::size_t>(desc.num_elements())};
}

std::span<const float> CpuExecutor::output(std::size_t program, std::size_t number) const {
  const Graph& graph = plan_.programs.at(program).graph;
  const ValueId id = graph.outputs().at(number);
  return {reinterpret_cast<const float*>(address(program, id)),
          static_cast<std::size_t>(graph.value(id).desc.num_elements())};
}

}  // namespace takt
