// Executor: runs one rank's part of a StepPlan on one kind of device.
#pragma once

#include <cstddef>
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

// Created once a run, on every rank of the mesh; nothing of ours is allocated in run(). Values are row-major and local,
// padding included; the padding of persistent values is zero.
class Executor {
 public:
  virtual ~Executor() = default;

  // Every rank runs the same actions in the same order; done on return.
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

  // Time spent in collectives since reset_times().
  virtual double collective_time_s() const = 0;
  virtual void reset_times() = 0;

  const StepPlan& plan() const { return plan_; }
  const std::vector<int>& coordinates() const { return coordinates_; }

 protected:
  // `plan` is borrowed and must outlive the executor.
  Executor(const StepPlan& plan, int rank) : plan_(plan), coordinates_(plan.mesh.coordinates(rank)) {}

  // Where a value of a program lies in an arena that begins at `arena`; an input in one of its slots.
  std::byte* address(std::byte* arena, std::size_t program, ValueId value, std::size_t slot = 0) const;
  // A node as its kernel is prepared, but for what the device adds.
  KernelNode kernel_node(const Graph& graph, const Node& node, const MeshGroups& groups) const;
  // Of all outputs of a node.
  std::vector<Padding> padding_of_outputs(std::byte* arena, std::size_t program, const Node& node) const;

  const StepPlan& plan_;

 private:
  std::vector<int> coordinates_;
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
