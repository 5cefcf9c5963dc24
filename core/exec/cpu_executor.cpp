// The CPU executor: all decisions are in the plan; here addresses are filled in and kernels called in order.
#include "core/exec/cpu_executor.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/base/units.h"
#include "core/device/onednn.h"

namespace takt {
namespace {

void clear(const Padding& padding) {
  for (std::size_t row = 0; row < padding.rows; ++row)
    std::memset(padding.data + row * padding.columns + padding.first, 0, padding.columns - padding.first);
}

}  // namespace

void CpuExecutor::FreeArena::operator()(std::byte* arena) const {
  std::free(arena);
}

CpuExecutor::CpuExecutor(const StepPlan& plan, int rank, MeshGroups groups, bool time_ops)
    : Executor(plan, rank), groups_(std::move(groups)) {
  const std::size_t num_bytes = std::max(plan.arena.num_bytes(), kArenaAlignment);
  arena_.reset(static_cast<std::byte*>(std::aligned_alloc(kArenaAlignment, aligned(num_bytes))));
  if (arena_ == nullptr)
    fail(Fault::kMemory, "the step needs ", format_gib(num_bytes), " a rank, which this host does not give");
  // Padding must be zero, and every page is there before the first step.
  std::memset(arena_.get(), 0, num_bytes);
  set_cpu_threads(plan.device.num_threads);
  times_.are_known = true;
  for (std::size_t p = 0; p < plan.programs.size(); ++p) {
    std::vector<Call>& calls = programs_.emplace_back();
    const std::vector<Node>& nodes = plan.programs[p].graph.nodes();
    for (std::size_t n = 0; n < nodes.size(); ++n) {
      if (nodes[n].op->awaits) continue;  // a started collective is done on return
      calls.push_back(prepare(p, n));
      if (time_ops) calls.back().time = time_of(plan.programs[p].graph, nodes[n]);
    }
  }
}

CpuExecutor::~CpuExecutor() = default;

CpuExecutor::Call CpuExecutor::prepare(std::size_t program, std::size_t n) const {
  const Graph& graph = plan_.programs[program].graph;
  const Node& node = graph.nodes()[n];
  Call call{.kernel = node.op->cpu.prepare(kernel_node(graph, node, groups_)),
            .inputs = {},
            .outputs = {},
            .communicates = node.op->communicates,
            .padding = padding_of_outputs(arena_.get(), program, node)};
  for (std::size_t slot = 0; slot < kInputSlots; ++slot)
    for (const ValueId id : node.inputs)
      call.inputs[slot].push_back(address(arena_.get(), program, id, slot));
  for (const ValueId id : node.outputs) call.outputs.push_back(address(arena_.get(), program, id));
  call.scratch = arena_.get() + plan_.arena.programs[program].scratch_offsets[n];
  return call;
}

void CpuExecutor::run(const Action& action) {
  switch (action.kind) {
    case Action::Kind::kRun:
      return run_program(action);
    case Action::Kind::kClearAccumulators:
      return clear_accumulators();
  }
}

void CpuExecutor::run_program(const Action& action) {
  using Clock = std::chrono::steady_clock;
  set_cpu_threads(plan_.device.num_threads);
  const auto slot = static_cast<std::size_t>(action.micro_batch % kInputSlots);
  last_program_ = static_cast<std::size_t>(action.program);
  for (const Call& call : programs_.at(last_program_)) {
    const bool is_timed = call.communicates || call.time != nullptr;
    const Clock::time_point start = is_timed ? Clock::now() : Clock::time_point();
    call.kernel({.inputs = call.inputs[slot], .outputs = call.outputs, .scratch = call.scratch});
    for (const Padding& padding : call.padding) clear(padding);
    if (is_timed) time(call, std::chrono::duration<double>(Clock::now() - start).count());
  }
}

// A collective blocks its rank, so that all of its time is exposed.
void CpuExecutor::time(const Call& call, double time_s) {
  if (call.communicates) times_.exposed_s = times_.collective_s += time_s;
  if (call.time == nullptr) return;
  ++call.time->num_calls;
  call.time->time_s += time_s;
}

void CpuExecutor::clear_accumulators() {
  for (const PersistentValue& value : plan_.table.values())
    if (value.role == Role::kAccumulator)
      std::memset(arena_.get() + plan_.arena.persistents.at(value.name).offset, 0, value.desc.num_bytes());
}

std::byte* CpuExecutor::storage(std::string_view name, std::size_t first, std::size_t num_bytes,
                                int micro_batch) const {
  const StepPlan::Location at = plan_.locate(name, last_program_);
  TAKT_ASSERT(first + num_bytes <= at.desc.num_bytes(), "'", name, "' is ", at.desc, ", not bytes ", first,
              " to ", first + num_bytes);
  return arena_.get() + at.offset + at.slot_stride * static_cast<std::size_t>(micro_batch % kInputSlots) +
         first;
}

std::span<const float> CpuExecutor::output(std::size_t program, std::size_t number) const {
  const Graph& graph = plan_.programs.at(program).graph;
  const ValueId id = graph.outputs().at(number);
  TAKT_ASSERT(graph.value(id).desc.dtype == DType::kF32, "output '", graph.value(id).name, "' is not f32");
  return {reinterpret_cast<const float*>(address(arena_.get(), program, id)),
          static_cast<std::size_t>(graph.value(id).desc.num_elements())};
}

std::span<std::byte> CpuExecutor::host_view(std::string_view name, int micro_batch) {
  const std::size_t num_bytes = plan_.locate(name, last_program_).desc.num_bytes();
  return {storage(name, 0, num_bytes, micro_batch), num_bytes};
}

void CpuExecutor::write(std::string_view name, std::span<const std::byte> bytes, int micro_batch) {
  std::memcpy(storage(name, 0, bytes.size(), micro_batch), bytes.data(), bytes.size());
}

void CpuExecutor::read(std::string_view name, std::span<std::byte> bytes) const {
  std::memcpy(bytes.data(), storage(name, 0, bytes.size(), 0), bytes.size());
}

void CpuExecutor::write_part(std::string_view name, std::size_t first, std::span<const std::byte> bytes) {
  std::memcpy(storage(name, first, bytes.size(), 0), bytes.data(), bytes.size());
}

void CpuExecutor::read_part(std::string_view name, std::size_t first, std::span<std::byte> bytes) const {
  std::memcpy(bytes.data(), storage(name, first, bytes.size(), 0), bytes.size());
}

}  // namespace takt
