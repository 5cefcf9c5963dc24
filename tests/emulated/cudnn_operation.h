// The operations of the cuDNN double, interpreted one by one in f32, whatever the real library would fuse.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/emulated/cudnn_descriptor.h"

namespace takt::emulated {

struct CudnnTensorView {
  int64_t id = 0;
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  bool is_virtual = false, by_value = false;
  std::vector<int64_t> dims, strides;

  int64_t num_elements() const;
  std::size_t span_bytes() const;  // from the first element to the last
};
CudnnTensorView view_of(const CudnnDescriptorContent& tensor);
std::size_t element_bytes(cudnnDataType_t type);

// Calls f(i, offset) for all elements in row-major order: their number and where they lie, in elements.
void over_elements(const CudnnTensorView& tensor, const std::function<void(int64_t, int64_t)>& f);

// The number, in a row-major tensor of `dims`, of what element i of a tensor of `whole` uses: where `dims` has fewer, every
// one serves several neighbours (all of them where it has one).
int64_t shared_element(int64_t i, const std::vector<int64_t>& whole, const std::vector<int64_t>& dims);

// The values of a graph while it is executed, row-major, already rounded to their tensors' types.
class CudnnValues {
 public:
  using Values = std::vector<float>;
  explicit CudnnValues(const std::map<int64_t, void*>& pointers, const std::map<int64_t, float>& constants)
      : pointers_(pointers), constants_(constants) {}
  const Values& read(const CudnnTensorView& tensor);
  void write(const CudnnTensorView& tensor, Values values);

 private:
  const std::map<int64_t, void*>& pointers_;
  const std::map<int64_t, float>& constants_;  // tensors by value
  std::map<int64_t, Values> values_;
};

struct CudnnOperation {
  std::vector<CudnnTensorView> inputs, outputs;
  std::function<void(CudnnValues&)> run;
  std::string problem;  // shapes that do not fit; empty: they do
};

// Aborts at an operation that the double does not know.
CudnnOperation operation_of(const CudnnDescriptorContent& descriptor);

CudnnOperation pointwise_operation(const CudnnDescriptorContent& descriptor);
CudnnOperation convolution_operation(const CudnnDescriptorContent& descriptor);

}  // namespace takt::emulated
