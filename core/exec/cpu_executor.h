// The CPU executor: runs a rank's part of a StepPlan with oneDNN and our own kernels.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/passes/step_plan.h"

namespace takt {

// The communicators of one rank, one a mesh axis (null where the axis has one rank). Borrowed.
using MeshGroups = std::vector<Communicator*>;

// Created once a run; creating it allocates the arena, fills it with zeros and prepares every kernel. Nothing
// is allocated after that by us; oneDNN takes argument tables and gemm work buffers and frees them again.
class CpuExecutor {
 public:
  // Every rank of the mesh creates its own. `plan` is borrowed and must outlive the executor.
  CpuExecutor(const StepPlan& plan, int rank, MeshGroups groups);
  ~CpuExecutor();
  CpuExecutor(const CpuExecutor&) = delete;
  CpuExecutor& operator=(const CpuExecutor&) = delete;

  // Runs all nodes of a program in order; done on return. Every rank of the mesh runs the same programs.
  void run(std::size_t program);
  // Zero at the start of a step.
  void zero_accumulators();

  // The storage of a persistent value, or of an input or output of a program. Throws kBug if there is none.
  std::span<float> persistent(std::string_view name);
  std::span<std::int32_t> tokens(std::size_t program, std::string_view input);
  std::span<float> scalars(std::size_t program, std::string_view input);
  std::span<const float> output(std::size_t program, std::size_t number) const;

  // Time spent in collectives since reset_times().
  double collective_time_s() const { return collective_time_s_; }
  void reset_times() { collective_time_s_ = 0; }
  std::size_t arena_bytes() const;
  const std::vector<int>& coordinates() const { return coordinates_; }

 private:
  // Padding of an output on this rank, seen as [rows, columns]: columns from `first` on do not exist
  // globally.
  struct Padding {
    float* data = nullptr;
    std::int64_t rows = 0, columns = 0, first = 0;
    void clear() const;
  };
  struct Step {
    CpuKernel kernel;
    std::vector<void*> inputs, outputs;
    void* scratch = nullptr;
    bool is_collective = false;
    std::vector<Padding> padding = {};
  };
  std::byte* address(std::size_t program, ValueId value) const;
  Step prepare(std::size_t program, std::size_t node, const MeshGroups& groups) const;
  std::vector<Padding> padding_of(std::size_t program, const Node& node) const;
  ValueId find(std::size_t program, std::string_view name) const;

  const StepPlan& plan_;
  std::vector<int> coordinates_;
  struct FreeArena {
    void operator()(std::byte* arena) const;
  };
  std::unique_ptr<std::byte, FreeArena> arena_;
  std::vector<std::vector<Step>> programs_;
  std::vector<std::span<float>> accumulators_;
  double collective_time_s_ = 0;
};

}  // namespace takt
