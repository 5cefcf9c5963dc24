// What the emulator's own tests share: a clean device before and after each, and owners of streams, events and memory.
#pragma once

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "tests/emulated/control.h"

#define EXPECT_CUDA(call) EXPECT_EQ(call, cudaSuccess) << takt::emulated::all_diagnoses()
#define ASSERT_CUDA(call) ASSERT_EQ(call, cudaSuccess) << takt::emulated::all_diagnoses()

namespace takt::emulated::test {

class StreamOwner {
 public:
  StreamOwner() { EXPECT_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~StreamOwner() { cudaStreamDestroy(stream_); }
  StreamOwner(const StreamOwner&) = delete;
  StreamOwner& operator=(const StreamOwner&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class EventOwner {
 public:
  explicit EventOwner(unsigned flags = cudaEventDisableTiming) {
    EXPECT_CUDA(cudaEventCreateWithFlags(&event_, flags));
  }
  ~EventOwner() { cudaEventDestroy(event_); }
  EventOwner(const EventOwner&) = delete;
  EventOwner& operator=(const EventOwner&) = delete;
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

template <class T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::size_t num) : num_(num) {
    EXPECT_CUDA(cudaMalloc(reinterpret_cast<void**>(&data_), num * sizeof(T)));
  }
  explicit DeviceBuffer(const std::vector<T>& values) : DeviceBuffer(values.size()) {
    EXPECT_CUDA(cudaMemcpy(data_, values.data(), num_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  T* get() const { return data_; }
  std::size_t num_bytes() const { return num_ * sizeof(T); }
  // Waits for nothing but its own copy.
  std::vector<T> values() const {
    std::vector<T> values(num_);
    EXPECT_CUDA(cudaMemcpy(values.data(), data_, num_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  std::size_t num_;
  T* data_ = nullptr;
};

template <class T>
class PinnedBuffer {
 public:
  explicit PinnedBuffer(std::size_t num) : num_(num) {
    EXPECT_CUDA(cudaMallocHost(reinterpret_cast<void**>(&data_), num * sizeof(T)));
  }
  ~PinnedBuffer() { cudaFreeHost(data_); }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  T* get() const { return data_; }
  T& operator[](std::size_t i) { return data_[i]; }
  std::size_t num_bytes() const { return num_ * sizeof(T); }

 private:
  std::size_t num_;
  T* data_ = nullptr;
};

inline std::vector<float> counting(std::size_t num, float first = 0) {
  std::vector<float> values(num);
  std::iota(values.begin(), values.end(), first);
  return values;
}

// A test that leaves something alive fails; so does one that does not look at a diagnosis, by expect_diagnosis.
class EmulatedTest : public testing::Test {
 protected:
  void SetUp() override {
    reset();
    cudaSetDevice(0);
    before_ = counters();
  }
  void TearDown() override {
    EXPECT_EQ(all_diagnoses(), "");
    reset();
    const Counters after = counters();
    EXPECT_EQ(after.num_live_allocations, before_.num_live_allocations);
    EXPECT_EQ(after.live_bytes, before_.live_bytes);
    EXPECT_EQ(after.num_live_streams, before_.num_live_streams);
    EXPECT_EQ(after.num_live_events, before_.num_live_events);
    EXPECT_EQ(after.num_live_graphs, before_.num_live_graphs);
  }

  // Something was diagnosed, with this text in it. Forgets all and repairs the devices; the settings stay.
  static void expect_diagnosis(const std::string& text) {
    EXPECT_THAT(all_diagnoses(), testing::HasSubstr(text));
    forget();
  }
  static void forget() {
    const Settings settings_now = settings();
    reset();
    configure(settings_now);
  }
  static void set_order(ThreadOrder order, uint64_t seed = 1) {
    Settings changed = settings();
    changed.thread_order = order;
    changed.seed = seed;
    configure(changed);
  }
  static void set_schedule(Schedule schedule, uint64_t seed = 1) {
    Settings changed = settings();
    changed.schedule = schedule;
    changed.seed = seed;
    configure(changed);
  }

 private:
  Counters before_;
};

inline std::string name_of(ThreadOrder order) {
  return order == ThreadOrder::kForward ? "forward" : order == ThreadOrder::kReverse ? "reverse" : "random";
}

inline auto all_orders() {
  return testing::Values(ThreadOrder::kForward, ThreadOrder::kReverse, ThreadOrder::kRandom);
}

}  // namespace takt::emulated::test
