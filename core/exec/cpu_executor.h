// The CPU executor: runs a rank's part of a StepPlan with oneDNN and our own kernels.
#pragma once

#include <array>
#include <memory>

#include "core/exec/executor.h"
#include "core/exec/mesh_groups.h"

namespace takt {

// Creating it allocates the arena, fills it with zeros and prepares every kernel. Nothing is allocated after that by
// us; oneDNN takes argument tables and gemm work buffers and frees them again. A collective blocks its rank.
class CpuExecutor final : public Executor {
 public:
  // Every rank of the mesh creates its own, with the groups of its nodes.
  explicit CpuExecutor(const StepPlan& plan, int rank = 0, MeshGroups groups = {}, bool time_ops = false);
  ~CpuExecutor() override;

  using Executor::run;
  void run(const Action& action) override;
  void write(std::string_view name, std::span<const std::byte> bytes, int micro_batch = 0) override;
  void read(std::string_view name, std::span<std::byte> bytes) const override;
  void write_part(std::string_view name, std::size_t first, std::span<const std::byte> bytes) override;
  void read_part(std::string_view name, std::size_t first, std::span<std::byte> bytes) const override;
  // Output number `number` of a program, as it was last computed: f32.
  std::span<const float> output(std::size_t program, std::size_t number) const;
  std::span<std::byte> host_view(std::string_view name, int micro_batch = 0) override;

 private:
  // A node, ready to run.
  struct Call {
    Kernel kernel;
    std::array<std::vector<void*>, kInputSlots> inputs;
    std::vector<void*> outputs;
    void* scratch = nullptr;
    bool communicates = false;
    OpTime* time = nullptr;  // null: not asked for
    std::vector<Padding> padding = {};
  };
  std::byte* storage(std::string_view name, std::size_t first, std::size_t num_bytes, int micro_batch) const;
  Call prepare(std::size_t program, std::size_t node) const;
  void time(const Call& call, double time_s);
  void run_program(const Action& action);
  void clear_accumulators();

  struct FreeArena {
    void operator()(std::byte* arena) const;
  };
  MeshGroups groups_;
  std::unique_ptr<std::byte, FreeArena> arena_;
  std::vector<std::vector<Call>> programs_;
  std::size_t last_program_ = 0;  // that ran
};

}  // namespace takt
