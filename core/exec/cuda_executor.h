// CudaExecutor: runs a plan on one GPU. Programs are recorded once as CUDA graphs; a step only launches them.
#pragma once

#include <array>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "collectives/device_communicator.h"
#include "collectives/nccl_settings.h"
#include "collectives/signature.h"
#include "core/device/cuda/arena.h"
#include "core/device/cuda/context.h"
#include "core/device/cuda/graph.h"
#include "core/device/cuda/transfer.h"
#include "core/exec/executor.h"
#include "core/exec/mesh_groups.h"

namespace takt {

struct CudaExecutorOptions {
  int gpu = 0;                      // ordinal among the visible devices
  std::string matmul_choices = {};  // see CudaOptions
  NcclSettings nccl = {};
  bool time_ops = false;     // see ExecutorOptions
  CallLog* calls = nullptr;  // see ExecutorOptions
};

// Allocates the arena, fills it with zeros, prepares every kernel and connects the groups. run() returns when the work is
// queued; read() waits for it. Collectives run on streams of their own, from their start to their done. Where nodes are
// timed, graphs also record an event before and behind each, and run() waits for its program.
class CudaExecutor final : public Executor {
 public:
  // Every rank of `world`, which is borrowed and carries what ranks must know of each other, makes its own at the same
  // time. Throws kConfig without such a GPU, kMemory if the plan does not fit, kPeer if the GPUs cannot connect.
  CudaExecutor(const StepPlan& plan, Communicator& world, const CudaExecutorOptions& options = {});
  ~CudaExecutor() override;

  using Executor::run;
  void run(const Action& action) override;
  void write(std::string_view name, std::span<const std::byte> bytes, int micro_batch = 0) override;
  void read(std::string_view name, std::span<std::byte> bytes) const override;
  void write_part(std::string_view name, std::size_t first, std::span<const std::byte> bytes) override;
  void read_part(std::string_view name, std::size_t first, std::span<std::byte> bytes) const override;
  void start_read(std::span<const std::string_view> outputs, std::size_t slot) override;
  std::span<const std::byte> finish_read(std::size_t slot) override;
  bool runs_beside_host() const override { return true; }
  // Always empty: the host does not reach the GPU's memory.
  std::span<std::byte> host_view(std::string_view, int) override { return {}; }

  // How often a stream waits for another in one run of all programs' graphs: for tests.
  std::int64_t num_waits() const { return num_waits_; }

 private:
  // The begin and end of a node in a graph, and where its time is added to.
  struct Timer {
    OpTime* time = nullptr;
    Phase phase = Phase::kForward;
    CudaEvent begin = CudaEvent(EventTiming::kOn), end = CudaEvent(EventTiming::kOn);
  };
  // A node, ready to be queued. `awaits`: the call that is done here; its index, or -1.
  struct Call {
    Kernel kernel;
    std::string name;
    std::array<std::vector<void*>, kInputSlots> inputs;
    std::vector<void*> outputs;
    void* scratch = nullptr;
    int stream = 0;
    int awaits = -1;
    bool communicates = false;
    std::vector<Padding> padding = {};
    std::optional<Timer> timer = {};  // where asked for
  };
  struct Program {
    std::vector<Call> calls;
    std::vector<std::string> inputs;  // that it reads
    std::array<std::optional<CudaGraph>, kInputSlots> graphs;
    std::vector<Signature> collectives;  // of a graph, once there is one
  };
  struct Run {
    std::byte* data = nullptr;
    std::size_t num_bytes = 0;
  };

  void connect_groups();
  void prepare_program(std::size_t program);
  void prepare_inputs();
  void list_accumulators();
  // Queues all calls of a program; collectives fork off the computing stream and join it again.
  void queue(const Program& program, std::size_t slot);
  void queue_call(const Call& call, std::size_t slot);
  // Of a program that has run.
  void add_times(const Program& program);
  void add_time(const Call& call);
  void record(Program& program, std::size_t slot);
  void run_program(const Action& action);
  void clear_accumulators();
  std::byte* storage(std::string_view name, std::size_t first, std::size_t num_bytes) const;
  // Null: one rank.
  DeviceCommunicator* gpus() const;
  // Waits for all that is queued on the computing stream; notices peers that fail meanwhile.
  void wait() const;
  InputSlot& input(const std::string& name, int micro_batch);

  bool time_ops_ = false;
  std::map<int, int> streams_;  // of the schedule, to those of the context
  mutable CudaContext context_;
  CallLog own_calls_;
  std::unique_ptr<Communicator> gpus_;  // null: one rank
  MeshGroups groups_;
  DeviceArena arena_;
  std::vector<Program> programs_;
  std::map<std::string, std::array<std::unique_ptr<InputSlot>, kInputSlots>, std::less<>> inputs_;
  std::vector<Run> accumulators_;  // pieces of memory that hold nothing else
  mutable PinnedBuffer staging_;
  std::array<std::optional<ReadBack>, kReadSlots> readings_;  // made at their first use
  std::size_t last_program_ = 0;
  std::int64_t num_waits_ = 0;
  int num_exceptions_ = std::uncaught_exceptions();
};

}  // namespace takt
