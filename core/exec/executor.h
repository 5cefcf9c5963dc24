// Executor: runs one rank's part of a StepPlan on one kind of device.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/exec/mesh_groups.h"
#include "core/exec/padding.h"
#include "core/passes/step_plan.h"

namespace takt {

// The saved values of a rank (parameters and state) as they were at one moment, by name.
using Snapshot = std::map<std::string, std::vector<std::byte>>;

inline constexpr std::size_t kReadSlots = 2;  // readings that may be under way at once

// The executions of one kind of node, all of them together.
struct OpTime {
  std::int64_t num_calls = 0;
  double time_s = 0;
};

// Where the time of a rank's programs went.
struct ExecutionTimes {
  bool are_known =
      false;  // of a GPU only where ExecutorOptions::time_ops asks for it: it runs beside the host
  double forward_backward_s = 0,
         update_s = 0;      // by the phase of nodes, waits for collectives included; of a GPU
  double collective_s = 0;  // from a collective's start to its end
  double exposed_s = 0;     // of that, while the rank computed nothing
  // By name, "all_reduce<data>"; where asked for. What runs beside the computation has its own time, and what the
  // computation waited for it is "wait for all_reduce<data>".
  std::map<std::string, OpTime> ops = {};
};

// Created once a run, on every rank of the mesh; nothing of ours is allocated in run(). Values are row-major and local,
// padding included; the padding of persistent values is zero.
class Executor {
 public:
  virtual ~Executor() = default;

  // Every rank runs the same actions in the same order; done on return, or queued where runs_beside_host().
  virtual void run(const Action& action) = 0;
  void run(std::span<const Action> actions);

  // Writes an input, in the slot of the micro-batch that will read it, or a persistent value. The number of bytes is
  // that of the value. Throws kBug if there is no such value.
  virtual void write(std::string_view name, std::span<const std::byte> bytes, int micro_batch = 0) = 0;
  // Reads a persistent value, or an output of the program that ran last.
  virtual void read(std::string_view name, std::span<std::byte> bytes) const = 0;
  // A part of a persistent value, counted in bytes.
  virtual void write_part(std::string_view name, std::size_t first, std::span<const std::byte> bytes) = 0;
  virtual void read_part(std::string_view name, std::size_t first, std::span<std::byte> bytes) const = 0;
  // The storage itself where the host can reach it, else empty; of an input in the slot of the micro-batch.
  virtual std::span<std::byte> host_view(std::string_view name, int micro_batch = 0) = 0;
  // Copies parameters and state, so that training can go on while they are saved.
  Snapshot snapshot() const;

  // As read(), but the host need not wait: begins to read outputs of the program that ran last, which nothing that is run
  // later changes. finish_read gives them, one behind the other, until the next start_read in the same slot.
  virtual void start_read(std::span<const std::string_view> outputs, std::size_t slot);
  virtual std::span<const std::byte> finish_read(std::size_t slot);
  // Whether programs go on while the host does something else: then results are better asked for one step late.
  virtual bool runs_beside_host() const { return false; }

  // Since reset_times().
  const ExecutionTimes& times() const { return times_; }
  void reset_times();

  const StepPlan& plan() const { return plan_; }
  const std::vector<int>& coordinates() const { return coordinates_; }

 protected:
  // `plan` is borrowed and must outlive the executor.
  Executor(const StepPlan& plan, int rank) : plan_(plan), coordinates_(plan.mesh.coordinates(rank)) {}

  // Where a value of a program lies in an arena that begins at `arena`; an input in one of its slots.
  std::byte* address(std::byte* arena, std::size_t program, ValueId value, std::size_t slot = 0) const;
  // A node as its kernel is prepared, but for what the device adds.
  KernelNode kernel_node(const Graph& graph, const Node& node, const MeshGroups& groups) const;
  // What a node is timed as. Stays where it is.
  OpTime* time_of(const Graph& graph, const Node& node);
  // Of all outputs of a node.
  std::vector<Padding> padding_of_outputs(std::byte* arena, std::size_t program, const Node& node) const;

  const StepPlan& plan_;
  ExecutionTimes times_;

 private:
  std::vector<int> coordinates_;
  std::array<std::vector<std::byte>, kReadSlots> readings_;
};

// The storage of a value of elements of type T, where the host reaches it.
template <class T>
std::span<T> host_span(Executor& executor, std::string_view name) {
  const std::span<std::byte> bytes = executor.host_view(name);
  return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
}

// A value of elements of type T, whole. The executor must hold it as T.
template <class T>
std::vector<T> read_as(const Executor& executor, std::string_view name) {
  std::vector<T> elements(executor.plan().locate(name).desc.num_bytes() / sizeof(T));
  executor.read(name, std::as_writable_bytes(std::span(elements)));
  return elements;
}

}  // namespace takt
