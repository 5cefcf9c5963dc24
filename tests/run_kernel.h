// Runs CPU kernels without a graph or a plan: tensors in their own dtype, given and read as doubles.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/base/bf16.h"
#include "core/graph/op.h"

namespace takt {

inline double rounded(double value, DType dtype) {
  const auto as_float = static_cast<float>(value);
  return static_cast<double>(dtype == DType::kBF16 ? to_float(to_bf16(as_float)) : as_float);
}

struct alignas(64) Line {
  std::byte bytes[64];
};

// Storage of one tensor, f32, bf16 or i32.
class Buffer {
 public:
  explicit Buffer(const TensorDesc& desc) : desc_(desc), lines_(desc.num_bytes() / sizeof(Line) + 1) {}
  void* data() { return lines_.data(); }
  std::size_t num_bytes() const { return desc_.num_bytes(); }
  void set(std::size_t i, double value) {
    if (desc_.dtype == DType::kI32)
      put(i, static_cast<std::int32_t>(value));
    else if (desc_.dtype == DType::kBF16)
      put(i, to_bf16(static_cast<float>(value)));
    else
      put(i, static_cast<float>(value));
  }
  double get(std::size_t i) const {
    if (desc_.dtype == DType::kI32) return take<std::int32_t>(i);
    return static_cast<double>(desc_.dtype == DType::kBF16 ? to_float(take<BF16>(i)) : take<float>(i));
  }
  std::vector<double> elements() const {
    std::vector<double> data(static_cast<std::size_t>(desc_.num_elements()));
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = get(i);
    return data;
  }

 private:
  template <class T>
  void put(std::size_t i, T value) {
    std::memcpy(reinterpret_cast<std::byte*>(lines_.data()) + i * sizeof(T), &value, sizeof(T));
  }
  template <class T>
  T take(std::size_t i) const {
    T value;
    std::memcpy(&value, reinterpret_cast<const std::byte*>(lines_.data()) + i * sizeof(T), sizeof(T));
    return value;
  }
  TensorDesc desc_;
  std::vector<Line> lines_;
};

// The op's CPU kernel once, with scratch of the size it asks for and a guard behind it.
inline void run_kernel(const OpDef& op, const KernelNode& node, const std::vector<Buffer*>& inputs,
                       const std::vector<Buffer*>& outputs) {
  constexpr std::byte kGuard{0x5A};
  std::vector<void*> in, out;
  for (Buffer* buffer : inputs) in.push_back(buffer->data());
  for (Buffer* buffer : outputs) out.push_back(buffer->data());
  const std::size_t scratch_bytes = op.cpu.scratch_bytes ? op.cpu.scratch_bytes(node) : 0;
  std::vector<Line> scratch(scratch_bytes / sizeof(Line) + 2);
  std::byte* const end = reinterpret_cast<std::byte*>(scratch.data()) + scratch_bytes;
  std::fill(end, end + sizeof(Line), kGuard);
  op.cpu.prepare(node)(
      {.inputs = in, .outputs = out, .scratch = scratch_bytes > 0 ? scratch.data() : nullptr});
  EXPECT_EQ(std::count(end, end + sizeof(Line), kGuard), static_cast<std::ptrdiff_t>(sizeof(Line)))
      << op.name << " writes past its scratch of " << scratch_bytes << " bytes";
}

// The same from elements to elements; the outputs are what the shape rule says.
inline std::vector<std::vector<double>> run_kernel(const OpDef& op, const Attrs& attrs,
                                                   const std::vector<TensorDesc>& inputs,
                                                   const std::vector<std::vector<double>>& data,
                                                   Communicator* group = nullptr, int num_threads = 1) {
  const std::string name = op.name;
  KernelNode node{{name, attrs, inputs, {}}};
  node.outputs = op.infer(node);
  node.group = group;
  node.num_threads = num_threads;
  std::vector<Buffer> buffers;
  for (const TensorDesc& input : inputs) buffers.emplace_back(input);
  for (const TensorDesc& output : node.outputs) buffers.emplace_back(output);
  std::vector<Buffer*> in, out;
  for (std::size_t i = 0; i < buffers.size(); ++i) (i < inputs.size() ? in : out).push_back(&buffers[i]);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    TAKT_ASSERT(static_cast<std::int64_t>(data[i].size()) == inputs[i].num_elements(), "input ", i, " has ",
                data[i].size(), " elements, wanted ", inputs[i]);
    for (std::size_t e = 0; e < data[i].size(); ++e) in[i]->set(e, data[i][e]);
  }
  run_kernel(op, node, in, out);
  std::vector<std::vector<double>> results;
  for (const Buffer* output : out) results.push_back(output->elements());
  return results;
}

}  // namespace takt
