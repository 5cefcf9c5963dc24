// What the cuDNN double refuses and finds. What it computes is tested through Takt's graphs (tests/cuda/cudnn_graph_test.cpp).
#include <cudnn.h>

#include <cmath>
#include <initializer_list>

#include "tests/emulated/emulated_test.h"

namespace takt::emulated::test {
namespace {

std::string last_reason() {
  char text[1024] = {};
  cudnnGetLastErrorString(text, sizeof text);
  return text;
}

#define EXPECT_DNN(call) EXPECT_EQ(call, CUDNN_STATUS_SUCCESS) << last_reason()

class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type) {
    EXPECT_DNN(cudnnBackendCreateDescriptor(type, &handle_));
  }
  ~Descriptor() { cudnnBackendDestroyDescriptor(handle_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  template <class T>
  cudnnStatus_t set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                    const std::vector<T>& values) {
    return cudnnBackendSetAttribute(handle_, name, type, static_cast<int64_t>(values.size()), values.data());
  }
  cudnnStatus_t refer(cudnnBackendAttributeName_t name, const Descriptor& other) {
    return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, std::vector{other.handle_});
  }
  cudnnStatus_t finalize() { return cudnnBackendFinalize(handle_); }
  cudnnBackendDescriptor_t handle() const { return handle_; }

 private:
  cudnnBackendDescriptor_t handle_ = nullptr;
};

void set_tensor(Descriptor& tensor, int64_t id, const std::vector<int64_t>& dims,
                const std::vector<int64_t>& strides) {
  EXPECT_DNN(tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, std::vector{id}));
  EXPECT_DNN(tensor.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, std::vector{CUDNN_DATA_FLOAT}));
  EXPECT_DNN(tensor.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, std::vector{int64_t{16}}));
  EXPECT_DNN(tensor.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, dims));
  EXPECT_DNN(tensor.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, strides));
}

// y = exp(x) over [1, 4, 8], ready to run by the engine that wants workspace.
class Exponential {
 public:
  explicit Exponential(cudnnHandle_t handle) : handle_(handle) {
    set_tensor(x_, 1, {1, 4, 8}, {32, 8, 1});
    set_tensor(y_, 2, {1, 4, 8}, {32, 8, 1});
    EXPECT_DNN(x_.finalize());
    EXPECT_DNN(y_.finalize());
    EXPECT_DNN(function_.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE,
                             std::vector{CUDNN_POINTWISE_EXP}));
    EXPECT_DNN(
        function_.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, std::vector{CUDNN_DATA_FLOAT}));
    EXPECT_DNN(function_.finalize());
    EXPECT_DNN(operation_.refer(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, function_));
    EXPECT_DNN(operation_.refer(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x_));
    EXPECT_DNN(operation_.refer(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y_));
    EXPECT_DNN(operation_.finalize());
    EXPECT_DNN(graph_.refer(CUDNN_ATTR_OPERATIONGRAPH_OPS, operation_));
    EXPECT_DNN(graph_.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, std::vector{handle}));
    EXPECT_DNN(graph_.finalize());
    EXPECT_DNN(heuristic_.refer(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph_));
    EXPECT_DNN(
        heuristic_.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, std::vector{CUDNN_HEUR_MODE_A}));
    EXPECT_DNN(heuristic_.finalize());
    cudnnBackendDescriptor_t config = config_.handle();
    int64_t num = 0;
    EXPECT_DNN(cudnnBackendGetAttribute(heuristic_.handle(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                        CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &num, &config));
    EXPECT_EQ(num, 1);
    EXPECT_DNN(plan_.refer(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config_));
    EXPECT_DNN(plan_.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, std::vector{handle}));
    EXPECT_DNN(plan_.finalize());
  }

  int64_t workspace_bytes() const {
    int64_t bytes = 0, num = 0;
    EXPECT_DNN(cudnnBackendGetAttribute(plan_.handle(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                        CUDNN_TYPE_INT64, 1, &num, &bytes));
    return bytes;
  }
  cudnnStatus_t run(const std::vector<int64_t>& ids, const std::vector<void*>& pointers, void* workspace) {
    Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    EXPECT_DNN(pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, ids));
    EXPECT_DNN(pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, pointers));
    EXPECT_DNN(pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, std::vector{workspace}));
    EXPECT_DNN(pack.finalize());
    return cudnnBackendExecute(handle_, plan_.handle(), pack.handle());
  }

 private:
  cudnnHandle_t handle_;
  Descriptor x_{CUDNN_BACKEND_TENSOR_DESCRIPTOR}, y_{CUDNN_BACKEND_TENSOR_DESCRIPTOR},
      function_{CUDNN_BACKEND_POINTWISE_DESCRIPTOR}, operation_{CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR},
      graph_{CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR}, heuristic_{CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR},
      config_{CUDNN_BACKEND_ENGINECFG_DESCRIPTOR}, plan_{CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR};
};

class CudnnDouble : public EmulatedTest {
 protected:
  void SetUp() override {
    EmulatedTest::SetUp();
    EXPECT_DNN(cudnnCreate(&handle_));
  }
  void TearDown() override {
    cudnnDestroy(handle_);
    EmulatedTest::TearDown();
  }
  cudnnHandle_t handle_ = nullptr;
};

TEST_F(CudnnDouble, RunsAGraphOnItsStreamAndCapturesIt) {
  const StreamOwner stream;
  EXPECT_DNN(cudnnSetStream(handle_, stream));
  Exponential exponential(handle_);
  const DeviceBuffer<float> x(counting(32, -16)), y(32),
      workspace(std::vector<float>(static_cast<std::size_t>(exponential.workspace_bytes()) / 4, 1.0f));
  EXPECT_DNN(exponential.run({1, 2}, {x.get(), y.get()}, workspace.get()));
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  for (int i = 0; i < 32; ++i)
    EXPECT_FLOAT_EQ(y.values()[static_cast<std::size_t>(i)], std::exp(static_cast<float>(i - 16)));
  for (const float value : workspace.values())
    EXPECT_TRUE(std::isnan(value)) << "the workspace keeps nothing";

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  EXPECT_CUDA(cudaMemsetAsync(y.get(), 0, y.num_bytes(), stream));
  EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  EXPECT_DNN(exponential.run({1, 2}, {x.get(), y.get()}, workspace.get()));
  EXPECT_CUDA(cudaStreamEndCapture(stream, &graph));
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(y.values()[16], 0.0f) << "a captured run waits for the launch of its graph";
  EXPECT_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  EXPECT_CUDA(cudaGraphLaunch(executable, stream));
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(y.values()[16], 1.0f);
  EXPECT_CUDA(cudaGraphExecDestroy(executable));
  EXPECT_CUDA(cudaGraphDestroy(graph));
}

TEST_F(CudnnDouble, FindsPointersThatDoNotFit) {
  const StreamOwner stream;
  EXPECT_DNN(cudnnSetStream(handle_, stream));
  Exponential exponential(handle_);
  const DeviceBuffer<float> x(32), y(32), short_y(31),
      workspace(static_cast<std::size_t>(exponential.workspace_bytes()) / 4);
  EXPECT_EQ(exponential.run({1}, {x.get()}, workspace.get()), CUDNN_STATUS_BAD_PARAM);
  expect_diagnosis("tensor 2 has no pointer");
  EXPECT_EQ(exponential.run({1, 2}, {x.get(), short_y.get()}, workspace.get()), CUDNN_STATUS_BAD_PARAM);
  expect_diagnosis("tensor 2");
  EXPECT_EQ(exponential.run({1, 2}, {x.get(), y.get() + 1}, workspace.get()), CUDNN_STATUS_BAD_PARAM);
  expect_diagnosis("not aligned to 16 bytes");
  EXPECT_EQ(exponential.run({1, 2}, {x.get(), y.get()}, y.get()), CUDNN_STATUS_BAD_PARAM);
  expect_diagnosis("workspace");
}

TEST_F(CudnnDouble, RefusesDescriptorsThatAreNotReady) {
  Descriptor tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  EXPECT_EQ(tensor.finalize(), CUDNN_STATUS_BAD_PARAM);
  EXPECT_THAT(last_reason(), testing::HasSubstr("is not set"));
  set_tensor(tensor, 1, {1, 4}, {4});
  EXPECT_EQ(tensor.finalize(), CUDNN_STATUS_BAD_PARAM);
  EXPECT_THAT(last_reason(), testing::HasSubstr("dimensions and strides differ"));
  Descriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  EXPECT_EQ(operation.refer(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, tensor), CUDNN_STATUS_BAD_PARAM);
  EXPECT_THAT(last_reason(), testing::HasSubstr("not finalized"));
  set_tensor(tensor, 1, {1, 4}, {4, 1});
  EXPECT_DNN(tensor.finalize());
  EXPECT_EQ(tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, std::vector{int64_t{2}}),
            CUDNN_STATUS_NOT_INITIALIZED);
}

TEST_F(CudnnDouble, DoesNotTakeAStreamOfAnotherDevice) {
  EXPECT_CUDA(cudaSetDevice(1));
  const StreamOwner stream;
  EXPECT_CUDA(cudaSetDevice(0));
  EXPECT_EQ(cudnnSetStream(handle_, stream), CUDNN_STATUS_BAD_PARAM);
}

TEST_F(CudnnDouble, FailsOnDemand) {
  inject("cudnnBackendCreateDescriptor", CUDNN_STATUS_ALLOC_FAILED);
  cudnnBackendDescriptor_t descriptor = nullptr;
  EXPECT_EQ(cudnnBackendCreateDescriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR, &descriptor),
            CUDNN_STATUS_ALLOC_FAILED);
  const StreamOwner stream;
  EXPECT_DNN(cudnnSetStream(handle_, stream));
  Exponential exponential(handle_);
  const DeviceBuffer<float> x(32), y(32),
      workspace(static_cast<std::size_t>(exponential.workspace_bytes()) / 4);
  inject("cudnnBackendExecute", CUDNN_STATUS_EXECUTION_FAILED);
  EXPECT_EQ(exponential.run({1, 2}, {x.get(), y.get()}, workspace.get()), CUDNN_STATUS_EXECUTION_FAILED);
  EXPECT_DNN(exponential.run({1, 2}, {x.get(), y.get()}, workspace.get()));
  EXPECT_CUDA(cudaStreamSynchronize(stream));
}

}  // namespace
}  // namespace takt::emulated::test
