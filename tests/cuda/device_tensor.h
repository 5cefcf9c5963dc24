// A tensor on the GPU, given and read as doubles, and ops run on it.
#pragma once

#include <deque>

#include "core/device/cuda/context.h"
#include "tests/run_kernel.h"

namespace takt {

class DeviceMemory {
 public:
  explicit DeviceMemory(std::size_t num_bytes) : num_bytes_(num_bytes) {
    if (num_bytes > 0) TAKT_CUDA(cudaMalloc(&data_, num_bytes));
  }
  ~DeviceMemory() { cudaFree(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  void* data() const { return data_; }
  std::size_t num_bytes() const { return num_bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t num_bytes_;
};

class DeviceTensor {
 public:
  explicit DeviceTensor(const TensorDesc& desc) : desc_(desc), host_(desc), memory_(desc.num_bytes()) {}
  DeviceTensor(const TensorDesc& desc, const std::vector<double>& elements) : DeviceTensor(desc) {
    for (std::size_t i = 0; i < elements.size(); ++i) host_.set(i, elements[i]);
    TAKT_CUDA(cudaMemcpy(data(), host_.data(), memory_.num_bytes(), cudaMemcpyHostToDevice));
  }
  void* data() const { return memory_.data(); }
  // Of work that is done.
  std::vector<double> elements() {
    TAKT_CUDA(cudaMemcpy(host_.data(), data(), memory_.num_bytes(), cudaMemcpyDeviceToHost));
    return host_.elements();
  }

 private:
  TensorDesc desc_;
  Buffer host_;
  DeviceMemory memory_;
};

// The op's CUDA kernel once on the context's compute stream, with what its shape rule says as outputs. Scratch is filled with
// NaN before: no kernel may count on what it finds there.
inline std::vector<std::vector<double>> run_cuda_kernel(const OpDef& op, KernelNode node,
                                                        CudaContext& context,
                                                        const std::vector<std::vector<double>>& data) {
  node.cuda = &context;
  node.outputs = op.infer(node);
  std::deque<DeviceTensor> tensors;
  std::vector<void*> in, out;
  for (std::size_t i = 0; i < node.inputs.size(); ++i)
    in.push_back(tensors.emplace_back(node.inputs[i], data[i]).data());
  for (const TensorDesc& output : node.outputs) out.push_back(tensors.emplace_back(output).data());
  const DeviceMemory scratch(op.cuda.scratch_bytes ? op.cuda.scratch_bytes(node) : 0);
  const cudaStream_t stream = context.compute_stream().get();
  if (scratch.num_bytes() > 0) TAKT_CUDA(cudaMemsetAsync(scratch.data(), 0xFF, scratch.num_bytes(), stream));
  op.cuda.prepare(node)({.inputs = in, .outputs = out, .scratch = scratch.data(), .stream = stream});
  context.synchronize();
  std::vector<std::vector<double>> results;
  for (std::size_t i = 0; i < node.outputs.size(); ++i)
    results.push_back(tensors[node.inputs.size() + i].elements());
  return results;
}

}  // namespace takt
