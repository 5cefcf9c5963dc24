// Ranks that run a random step.
#pragma once

#include "core/exec/cpu_executor.h"
#include "core/passes/shard_ranges.h"
#include "tests/random_graph.h"

namespace takt::random_graph {

// Calls body(local element, global element) for what a rank holds of a value.
template <class Body>
void for_each_held(const Value& value, const Mesh& mesh, std::span<const int> coordinates, const Body& body) {
  for (std::int64_t i = 0; i < value.desc.num_elements(); ++i) {
    std::int64_t rest = i, global = 0, stride = 1;
    bool exists = true;
    for (std::size_t d = value.desc.dims.size(); d-- > 0; rest /= value.desc.dims[d].extent) {
      const AxisRange range = range_of(value, d, mesh, coordinates);
      const std::int64_t at = rest % value.desc.dims[d].extent;
      exists = exists && at < range.num_valid;
      global += stride * (range.offset + at);
      stride *= value.global_dims[d].extent;
    }
    if (exists) body(static_cast<std::size_t>(i), static_cast<std::size_t>(global));
  }
}

// Writes what a rank holds of a program's inputs and parameters.
inline void load(CpuExecutor& executor, std::size_t program, const Arrays& arrays) {
  for (const Value& value : executor.plan().programs[program].graph.values()) {
    if (value.role != Role::kInput && value.role != Role::kParameter) continue;
    const Array& array = arrays.at(value.name);
    const bool is_index = value.desc.dtype == DType::kI32;
    const std::span<std::int32_t> indices =
        is_index ? host_span<std::int32_t>(executor, value.name) : std::span<std::int32_t>();
    const std::span<float> numbers = is_index ? std::span<float>() : host_span<float>(executor, value.name);
    for_each_held(value, executor.plan().mesh, executor.coordinates(),
                  [&](std::size_t local, std::size_t global) {
                    if (is_index)
                      indices[local] = static_cast<std::int32_t>(array.data[global]);
                    else
                      numbers[local] = static_cast<float>(array.data[global]);
                  });
  }
}

}  // namespace takt::random_graph
