// The CUDA executor: all decisions are in the plan; here addresses are filled in, and programs become graphs of work.
#include "core/exec/cuda_executor.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <set>

#include "collectives/nccl.h"
#include "collectives/registry.h"
#include "core/device/cuda/nvtx.h"

namespace takt {
namespace {

// The schedule's numbers of streams, in order; 0, which computes, is always there.
std::map<int, int> streams_of(const StepPlan& plan) {
  std::set<int> numbers = {0};
  for (const Program& program : plan.programs)
    for (const Node& node : program.graph.nodes()) numbers.insert(node.stream);
  std::map<int, int> streams;
  for (const int number : numbers) streams.emplace(number, static_cast<int>(streams.size()));
  return streams;
}

CudaOptions options_of(const CudaExecutorOptions& options, const std::map<int, int>& streams) {
  return {.device = options.gpu,
          .num_streams = static_cast<int>(streams.size()),
          .matmul_choices = options.matmul_choices};
}

// Ranks whose GPUs exchange data; null where there is nobody to exchange with.
std::unique_ptr<Communicator> connect(Communicator& world, CallLog& calls, const NcclSettings& settings) {
  if (world.size() == 1) return nullptr;
  return make_nccl_communicator({world, calls}, settings);
}

}  // namespace

CudaExecutor::CudaExecutor(const StepPlan& plan, Communicator& world, const CudaExecutorOptions& options)
    : Executor(plan, world.rank()),
      time_ops_(options.time_ops),
      streams_(streams_of(plan)),
      context_(options_of(options, streams_)),
      gpus_(connect(world, options.calls != nullptr ? *options.calls : own_calls_, options.nccl)),
      groups_(plan, gpus_ ? *gpus_ : world),
      arena_(std::max(plan.arena.num_bytes(), kArenaAlignment),
             gpus_ ? ArenaKind::kRegistrable : ArenaKind::kPlain, context_.compute_stream()) {
  TAKT_ASSERT(plan.device.kind == DeviceKind::kCuda, "a plan for another device is run on a GPU");
  times_.are_known = time_ops_;
  connect_groups();
  for (std::size_t p = 0; p < plan.programs.size(); ++p) prepare_program(p);
  prepare_inputs();
  list_accumulators();
  context_.synchronize();
}

// What is queued uses the arena still, and may wait for peers that never come.
CudaExecutor::~CudaExecutor() {
  if (gpus_ && std::uncaught_exceptions() > num_exceptions_) gpus()->abandon();
  try {
    context_.synchronize();
  } catch (const Error&) {  // a device that is broken runs nothing more
  }
}

// A group's connections are made before a graph is recorded: inside, nothing may wait.
void CudaExecutor::connect_groups() {
  if (!gpus_) return;
  gpus()->register_memory(arena_.data(), arena_.num_bytes());
  groups_.for_each([](Communicator& group) { dynamic_cast<DeviceCommunicator&>(group).connect(); });
}

void CudaExecutor::prepare_program(std::size_t program) {
  const Graph& graph = plan_.programs[program].graph;
  Program& ready = programs_.emplace_back();
  for (const Value& value : graph.values())
    if (value.role == Role::kInput) ready.inputs.push_back(value.name);
  for (std::size_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& node = graph.nodes()[n];
    Call call{
        .kernel = {}, .name = node.name, .inputs = {}, .outputs = {}, .stream = streams_.at(node.stream)};
    // Calls are numbered as nodes are, so that a done finds its start.
    call.communicates = node.op->communicates;
    if (time_ops_) call.timer = Timer{.time = time_of(graph, node), .phase = node.tag.phase};
    if (node.op->awaits) call.awaits = graph.value(node.inputs[0]).producer.index;
    KernelNode view = kernel_node(graph, node, groups_);
    view.cuda = &context_;
    call.kernel = for_node(node.name, [&] { return node.op->cuda.prepare(view); });
    for (std::size_t slot = 0; slot < kInputSlots; ++slot)
      for (const ValueId id : node.inputs)
        call.inputs[slot].push_back(address(arena_.data(), program, id, slot));
    for (const ValueId id : node.outputs) call.outputs.push_back(address(arena_.data(), program, id));
    call.scratch = arena_.data() + plan_.arena.programs[program].scratch_offsets[n];
    call.padding = padding_of_outputs(arena_.data(), program, node);
    ready.calls.push_back(std::move(call));
  }
}

void CudaExecutor::prepare_inputs() {
  for (const PersistentValue& value : plan_.table.values()) {
    if (value.role != Role::kInput) continue;
    for (auto& slot : inputs_[value.name])
      slot = std::make_unique<InputSlot>(value.name, value.desc.num_bytes());
  }
}

// Accumulators that lie side by side, with gaps that belong to nobody, are cleared at once.
void CudaExecutor::list_accumulators() {
  std::vector<Run> all;
  for (const PersistentValue& value : plan_.table.values())
    if (value.role == Role::kAccumulator)
      all.push_back(
          {arena_.data() + plan_.arena.persistents.at(value.name).offset, aligned(value.desc.num_bytes())});
  std::sort(all.begin(), all.end(), [](const Run& a, const Run& b) { return a.data < b.data; });
  for (const Run& run : all) {
    if (!accumulators_.empty() && accumulators_.back().data + accumulators_.back().num_bytes == run.data)
      accumulators_.back().num_bytes += run.num_bytes;
    else
      accumulators_.push_back(run);
  }
}

void CudaExecutor::queue(const Program& program, std::size_t slot) {
  const CudaStream& compute = context_.compute_stream();
  std::map<std::size_t, HandOver> started;  // by call: its results, handed over by its stream
  for (std::size_t c = 0; c < program.calls.size(); ++c) {
    const Call& call = program.calls[c];
    const NvtxRange range(call.name.c_str());
    if (call.awaits >= 0) {
      HandOver& results = started.at(static_cast<std::size_t>(call.awaits));
      if (call.timer) call.timer->begin.record_at_launch(compute);
      results.take(compute);
      if (call.timer) call.timer->end.record_at_launch(compute);
      num_waits_ += results.num_waits();
      continue;
    }
    const CudaStream& stream = context_.stream(call.stream);
    if (call.stream != 0) {
      HandOver operands(call.name);
      operands.give(compute);
      operands.take(stream);
      num_waits_ += operands.num_waits();
    }
    if (call.timer) call.timer->begin.record_at_launch(stream);
    queue_call(call, slot);
    if (call.timer) call.timer->end.record_at_launch(stream);
    if (call.stream != 0) started.emplace(c, HandOver(call.name)).first->second.give(stream);
  }
}

void CudaExecutor::queue_call(const Call& call, std::size_t slot) {
  const cudaStream_t stream = context_.stream(call.stream).get();
  for_node(call.name, [&] {
    call.kernel(
        {.inputs = call.inputs[slot], .outputs = call.outputs, .scratch = call.scratch, .stream = stream});
    for (const Padding& p : call.padding)
      TAKT_CUDA(cudaMemset2DAsync(p.data + p.first, p.columns, 0, p.columns - p.first, p.rows, stream));
  });
}

void CudaExecutor::add_times(const Program& program) {
  wait();
  for (const Call& call : program.calls) add_time(call);
}

// What runs on another stream is no part of a phase, but the wait for it is. A collective on the computing stream is both.
void CudaExecutor::add_time(const Call& call) {
  const double time_s = call.timer->end.seconds_since(call.timer->begin);
  ++call.timer->time->num_calls;
  call.timer->time->time_s += time_s;
  if (call.communicates) times_.collective_s += time_s;
  if (call.stream != 0) return;
  if (call.communicates || call.awaits >= 0) times_.exposed_s += time_s;
  (call.timer->phase == Phase::kUpdate ? times_.update_s : times_.forward_backward_s) += time_s;
}

void CudaExecutor::run(const Action& action) {
  switch (action.kind) {
    case Action::Kind::kRun:
      return run_program(action);
    case Action::Kind::kClearAccumulators:
      return clear_accumulators();
  }
}

void CudaExecutor::run_program(const Action& action) {
  const auto slot = static_cast<std::size_t>(action.micro_batch % kInputSlots);
  last_program_ = static_cast<std::size_t>(action.program);
  Program& program = programs_.at(last_program_);
  if (!program.graphs[slot]) record(program, slot);
  if (gpus_) gpus()->require_peers();
  for (const std::string& name : program.inputs)
    input(name, action.micro_batch).begin_use(context_.compute_stream());
  program.graphs[slot]->launch(context_.compute_stream());
  if (gpus_) gpus()->note_launched(program.collectives, context_.compute_stream().get());
  for (const std::string& name : program.inputs)
    input(name, action.micro_batch).end_use(context_.compute_stream());
  if (time_ops_) add_times(program);
}

// Ranks compare what they have recorded before any of it runs, so that calls that do not fit never meet on the GPUs.
void CudaExecutor::record(Program& program, std::size_t slot) {
  program.graphs[slot].emplace(context_.compute_stream(), [&] { queue(program, slot); });
  if (!gpus_) return;
  program.collectives = gpus()->take_captured();
  groups_.for_each([](Communicator& group) { dynamic_cast<DeviceCommunicator&>(group).compare_calls(); });
}

void CudaExecutor::clear_accumulators() {
  for (const Run& run : accumulators_)
    TAKT_CUDA(cudaMemsetAsync(run.data, 0, run.num_bytes, context_.compute_stream().get()));
}

InputSlot& CudaExecutor::input(const std::string& name, int micro_batch) {
  return *inputs_.find(name)->second[static_cast<std::size_t>(micro_batch % kInputSlots)];
}

std::byte* CudaExecutor::storage(std::string_view name, std::size_t first, std::size_t num_bytes) const {
  const StepPlan::Location at = plan_.locate(name, last_program_);
  TAKT_ASSERT(first + num_bytes <= at.desc.num_bytes(), "'", name, "' is ", at.desc, ", not bytes ", first,
              " to ", first + num_bytes);
  return arena_.data() + at.offset + first;
}

DeviceCommunicator* CudaExecutor::gpus() const {
  return dynamic_cast<DeviceCommunicator*>(gpus_.get());
}

void CudaExecutor::wait() const {
  if (gpus_)
    gpus()->wait(context_.compute_stream().get());
  else
    context_.compute_stream().synchronize();
}

void CudaExecutor::write(std::string_view name, std::span<const std::byte> bytes, int micro_batch) {
  const auto found = inputs_.find(name);
  if (found == inputs_.end()) return write_part(name, 0, bytes);
  const StepPlan::Location at = plan_.locate(name);
  TAKT_ASSERT(bytes.size() == at.desc.num_bytes(), "input '", name, "' is ", at.desc, ", got ", bytes.size(),
              " bytes");
  const auto slot = static_cast<std::size_t>(micro_batch % kInputSlots);
  found->second[slot]->write(bytes, arena_.data() + at.offset + slot * at.slot_stride,
                             context_.copy_stream());
}

void CudaExecutor::read(std::string_view name, std::span<std::byte> bytes) const {
  read_part(name, 0, bytes);
}

void CudaExecutor::start_read(std::span<const std::string_view> outputs, std::size_t slot) {
  std::vector<std::span<const std::byte>> pieces;
  std::size_t num_bytes = 0;
  for (const std::string_view name : outputs) {
    const std::size_t bytes = plan_.locate(name, last_program_).desc.num_bytes();
    pieces.emplace_back(storage(name, 0, bytes), bytes);
    num_bytes += bytes;
  }
  std::optional<ReadBack>& reading = readings_.at(slot);
  if (!reading) reading.emplace(num_bytes);
  reading->queue(pieces, context_.compute_stream());
}

std::span<const std::byte> CudaExecutor::finish_read(std::size_t slot) {
  const ReadBack& reading = readings_.at(slot).value();
  if (gpus_) gpus()->wait_until([&] { return reading.is_done(); });
  return reading.wait();
}

void CudaExecutor::write_part(std::string_view name, std::size_t first, std::span<const std::byte> bytes) {
  std::byte* to = storage(name, first, bytes.size());
  if (staging_.bytes().size() < bytes.size()) staging_ = PinnedBuffer(bytes.size());
  std::memcpy(staging_.bytes().data(), bytes.data(), bytes.size());
  TAKT_CUDA(cudaMemcpyAsync(to, staging_.bytes().data(), bytes.size(), cudaMemcpyHostToDevice,
                            context_.compute_stream().get()));
  wait();
}

void CudaExecutor::read_part(std::string_view name, std::size_t first, std::span<std::byte> bytes) const {
  const std::byte* from = storage(name, first, bytes.size());
  if (staging_.bytes().size() < bytes.size()) staging_ = PinnedBuffer(bytes.size());
  TAKT_CUDA(cudaMemcpyAsync(staging_.bytes().data(), from, bytes.size(), cudaMemcpyDeviceToHost,
                            context_.compute_stream().get()));
  wait();
  std::memcpy(bytes.data(), staging_.bytes().data(), bytes.size());
}

}  // namespace takt
