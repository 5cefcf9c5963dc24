// An op's CUDA kernel on tensors of the host, with guards around what it may write.
#pragma once

#include <map>

#include "core/device/cuda/context.h"
#include "tests/emulated/control.h"
#include "tests/op_contract.h"

namespace takt::op_contract {

inline constexpr std::byte kGuard{0x5A};
inline constexpr std::size_t kGuardBytes = 256;

inline void free_device(void* memory) noexcept {
  cudaFree(memory);
}

// A buffer's copy on the device, `shift` bytes behind an aligned address, with guards around it.
class DeviceBuffer {
 public:
  DeviceBuffer(std::size_t num_bytes, std::size_t shift) : num_bytes_(num_bytes), shift_(shift) {
    void* raw = nullptr;
    TAKT_CUDA(cudaMalloc(&raw, shift + num_bytes + 2 * kGuardBytes));
    memory_ = Owned<void*, free_device>(raw);
    const std::vector<std::byte> guard(shift + num_bytes + 2 * kGuardBytes, kGuard);
    TAKT_CUDA(cudaMemcpy(raw, guard.data(), guard.size(), cudaMemcpyHostToDevice));
  }
  std::byte* data() const { return static_cast<std::byte*>(memory_.get()) + kGuardBytes + shift_; }
  void write(const void* from) const {
    TAKT_CUDA(cudaMemcpy(data(), from, num_bytes_, cudaMemcpyHostToDevice));
  }
  void read(void* to) const { TAKT_CUDA(cudaMemcpy(to, data(), num_bytes_, cudaMemcpyDeviceToHost)); }
  bool guards_are_intact() const {
    std::vector<std::byte> all(shift_ + num_bytes_ + 2 * kGuardBytes);
    TAKT_CUDA(cudaMemcpy(all.data(), memory_.get(), all.size(), cudaMemcpyDeviceToHost));
    const auto is_guard = [](std::byte byte) { return byte == kGuard; };
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(kGuardBytes + shift_);
    return std::all_of(all.begin(), first, is_guard) &&
           std::all_of(first + static_cast<std::ptrdiff_t>(num_bytes_), all.end(), is_guard);
  }

 private:
  std::size_t num_bytes_, shift_;
  Owned<void*, free_device> memory_;
};

// The op's CUDA kernel once, with scratch of the size it asks for. Tensors lie `shift` bytes behind aligned addresses.
inline void run_on_gpu(CudaContext& context, const OpDef& op, KernelNode& node,
                       const std::vector<Buffer*>& inputs, const std::vector<Buffer*>& outputs,
                       std::size_t shift = 0) {
  node.cuda = &context;
  std::map<Buffer*, DeviceBuffer> on_device;  // an output in an input's storage is one buffer
  const auto place = [&](Buffer* buffer) -> void* {
    const auto [entry, is_new] = on_device.try_emplace(buffer, buffer->num_bytes(), shift);
    if (is_new) entry->second.write(buffer->data());
    return entry->second.data();
  };
  std::vector<void*> in, out;
  for (Buffer* buffer : inputs) in.push_back(place(buffer));
  for (Buffer* buffer : outputs) out.push_back(place(buffer));
  const std::size_t scratch_bytes = op.cuda.scratch_bytes ? op.cuda.scratch_bytes(node) : 0;
  const DeviceBuffer scratch(scratch_bytes, 0);
  const CudaStream& stream = context.compute_stream();
  op.cuda.prepare(node)({.inputs = in, .outputs = out, .scratch = scratch.data(), .stream = stream.get()});
  stream.synchronize();
  for (Buffer* buffer : outputs) on_device.at(buffer).read(buffer->data());
  for (const auto& [buffer, copy] : on_device)
    EXPECT_TRUE(copy.guards_are_intact()) << op.name << " writes beside a tensor of " << buffer->num_bytes();
  EXPECT_TRUE(scratch.guards_are_intact()) << op.name << " writes beside its scratch of " << scratch_bytes;
  EXPECT_EQ(emulated::all_diagnoses(), "") << op.name;
}

}  // namespace takt::op_contract
