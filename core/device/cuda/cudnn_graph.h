// The contact with cuDNN: a graph of operations, and the plan by which one of cuDNN's engines runs it.
//
// Built over the backend descriptors and not NVIDIA's C++ front end: docs/gpu.md has the figures. Nothing here needs
// a GPU but CudnnPlan::run, so that the real library can be asked for plans on a machine without one.
#pragma once

#include <cuda_runtime_api.h>
#include <cudnn.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/base/owned.h"
#include "core/base/tensor.h"

namespace takt {

void destroy_cudnn_descriptor(cudnnBackendDescriptor_t descriptor) noexcept;

// A backend descriptor: attributes are set, then it is finalized, then it can be read and referred to.
class CudnnDescriptor {
 public:
  explicit CudnnDescriptor(cudnnBackendDescriptorType_t type);

  template <class T>
  CudnnDescriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const T& value) {
    return set_array(name, type, 1, &value);
  }
  CudnnDescriptor& set(cudnnBackendAttributeName_t name, std::span<const std::int64_t> values);
  CudnnDescriptor& set(cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t descriptor);
  CudnnDescriptor& set_array(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                             std::int64_t num_values, const void* values);
  // Throws kBug with cuDNN's reason if the attributes do not fit together.
  CudnnDescriptor& finalize();
  // The same, but cuDNN's reason instead of an error; empty: it is finalized.
  std::string try_to_finalize();

  // Fills `values` with as many as there are, at most `num_values`; says how many that were.
  std::int64_t get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                   std::int64_t num_values, void* values) const;
  cudnnBackendDescriptor_t handle() const { return descriptor_.get(); }

 private:
  Owned<cudnnBackendDescriptor_t, destroy_cudnn_descriptor> descriptor_;
};

using CudnnDims = std::vector<std::int64_t>;
CudnnDims row_major_strides(const CudnnDims& dims);
cudnnDataType_t to_cudnn(DType dtype);

// A tensor of a CudnnGraph, which owns the descriptor.
struct CudnnTensor {
  cudnnBackendDescriptor_t descriptor = nullptr;
  std::int64_t id = 0;
  CudnnDims dims, strides;
};

class CudnnGraph {
 public:
  // In the caller's memory, aligned to 16 bytes: CudnnPlan::run takes the pointers in the order of these calls.
  CudnnTensor tensor(const CudnnDims& dims, const CudnnDims& strides, cudnnDataType_t type);
  // Between two operations: it is never written to memory. Row-major unless strides are given.
  CudnnTensor between(const CudnnDims& dims, cudnnDataType_t type = CUDNN_DATA_FLOAT,
                      const CudnnDims& strides = {});
  // One number for all elements; fixed when the graph is built.
  CudnnTensor constant(float value);

  // Sums and functions are computed in f32. Dimensions of 1 are repeated; in a product a stack of matrices is repeated
  // over the heads that share it.
  void matmul(const CudnnTensor& a, const CudnnTensor& b, const CudnnTensor& c);
  void pointwise(cudnnPointwiseMode_t mode, std::initializer_list<CudnnTensor> inputs,
                 const CudnnTensor& output, std::optional<std::int64_t> axis = {});
  void reduce(cudnnReduceTensorOp_t op, const CudnnTensor& x, const CudnnTensor& y);
  // The same elements in memory, seen with y's dimensions and strides.
  void reshape(const CudnnTensor& x, const CudnnTensor& y);
  // Any other operation (convolutions), whose descriptor is finalized.
  void add(CudnnDescriptor operation);
  // For descriptors that operations refer to.
  cudnnBackendDescriptor_t keep(CudnnDescriptor descriptor);

  const std::vector<cudnnBackendDescriptor_t>& operations() const { return operations_; }
  std::size_t num_tensors() const { return static_cast<std::size_t>(num_tensors_); }
  const std::vector<std::pair<std::int64_t, float>>& constants() const { return constants_; }

 private:
  CudnnTensor make_tensor(std::int64_t id, const CudnnDims& dims, const CudnnDims& strides,
                          cudnnDataType_t type, bool in_memory, bool is_constant);
  std::vector<CudnnDescriptor> descriptors_;
  std::vector<cudnnBackendDescriptor_t> operations_;
  std::vector<std::pair<std::int64_t, float>> constants_;  // by tensor id
  std::int64_t num_tensors_ = 0;                           // ids 0, 1, … are those in memory
  std::int64_t next_id_ = 1 << 20;
};

// For what a plan is made: the device of a handle, or one that is only described (no GPU).
struct CudnnTarget {
  cudnnHandle_t handle = nullptr;
  cudnnBackendDescriptor_t device_properties = nullptr;
};

// What one of cuDNN's engines compiled for a graph.
class CudnnPlan {
 public:
  std::int64_t engine() const { return engine_; }
  std::size_t workspace_bytes() const { return workspace_bytes_; }

  // Queues the graph. `tensors`: in the order in which the graph declared them; `workspace`: workspace_bytes, aligned
  // to 64. Not for two threads at once.
  void run(cudnnHandle_t handle, cudaStream_t stream, std::span<void* const> tensors, void* workspace);

 private:
  friend struct CudnnPlanning plan_cudnn_graph(CudnnGraph graph, const CudnnTarget& target,
                                               std::size_t workspace_limit);
  CudnnPlan(CudnnGraph graph, std::vector<CudnnDescriptor> made_from, CudnnDescriptor plan);
  void bind(std::span<void* const> tensors, void* workspace);

  CudnnGraph graph_;
  std::vector<CudnnDescriptor> made_from_;  // the graph's descriptor and, last, the engine's configuration
  CudnnDescriptor plan_;
  std::optional<CudnnDescriptor> pack_;  // of the pointers in bound_
  std::vector<void*> bound_;
  std::int64_t engine_ = -1;
  std::size_t workspace_bytes_ = 0;
};

// A plan, or why every engine refused: a line each.
struct CudnnPlanning {
  std::optional<CudnnPlan> plan;
  std::string refusal;
};

// Asks cuDNN's heuristic for engines and takes the first that supports the graph on the target within the limit of
// workspace. May compile kernels: up to seconds. Throws kBug if the graph is malformed.
CudnnPlanning plan_cudnn_graph(CudnnGraph graph, const CudnnTarget& target, std::size_t workspace_limit);

}  // namespace takt
