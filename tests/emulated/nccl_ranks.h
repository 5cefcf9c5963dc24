// Ranks as threads, each with an emulated device of its own, for tests of the nccl backend.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "collectives/local.h"
#include "collectives/nccl.h"
#include "collectives/registry.h"
#include "core/base/owned.h"
#include "core/device/cuda/error.h"
#include "core/device/cuda/stream.h"
#include "tests/emulated/control.h"
#include "tests/emulated/nccl_control.h"

namespace takt::emulated {

inline void free_memory(void* memory) noexcept {
  cudaFree(memory);
}

// Memory of the current device with a host's copy of it.
template <class T>
class Buffer {
 public:
  explicit Buffer(std::size_t num_elements) : num_(num_elements) {
    void* memory = nullptr;
    TAKT_CUDA(cudaMalloc(&memory, num_bytes()));
    memory_ = Owned<void*, free_memory>(memory);
  }
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) { set(values); }

  T* data() const { return static_cast<T*>(memory_.get()); }
  std::size_t num_bytes() const { return num_ * sizeof(T); }
  void set(const std::vector<T>& values) const {
    if (num_ > 0) TAKT_CUDA(cudaMemcpy(data(), values.data(), num_bytes(), cudaMemcpyHostToDevice));
  }
  std::vector<T> get() const {
    std::vector<T> values(num_);
    if (num_ > 0) TAKT_CUDA(cudaMemcpy(values.data(), data(), num_bytes(), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  std::size_t num_;
  Owned<void*, free_memory> memory_;
};

// A fresh emulated device and double before and after; nothing may be diagnosed or left over unless a test says so.
class EmulatedRanks : public testing::Test {
 protected:
  void SetUp() override {
    reset();
    reset_nccl();
    before_ = counters();  // a test on a broken device cannot give its memory back
  }
  void TearDown() override {
    if (expects_no_diagnoses) {
      EXPECT_EQ(all_diagnoses(), "");
    }
    EXPECT_TRUE(live_communicators().empty());
    EXPECT_EQ(counters().num_live_streams, before_.num_live_streams);
    EXPECT_EQ(counters().num_live_allocations, before_.num_live_allocations);
    reset();
    reset_nccl();
  }

  bool expects_no_diagnoses = true;

 private:
  Counters before_;
};

// Devices for that many ranks, under the schedule of the environment.
inline void make_devices(int num_ranks) {
  Settings with = settings();
  with.num_devices = num_ranks;
  with.forbid_pageable_copies = false;
  configure(with);
}

// body(host, device communicator), once a rank.
using RankBody = std::function<void(Communicator&, DeviceCommunicator&)>;

inline void run_gpu_ranks(int num_ranks, const takt::NcclSettings& nccl, const RankBody& body) {
  make_devices(num_ranks);
  run_ranks(num_ranks, [&](Communicator& host) {
    TAKT_CUDA(cudaSetDevice(host.rank()));
    CallLog log;
    const std::unique_ptr<DeviceCommunicator> comm = make_nccl_communicator({host, log}, nccl);
    body(host, *comm);
  });
}

inline std::unique_ptr<DeviceCommunicator> split_device(Communicator& comm, int color,
                                                        std::string_view name) {
  std::unique_ptr<Communicator> made = comm.split(color, name);
  return std::unique_ptr<DeviceCommunicator>(&dynamic_cast<DeviceCommunicator&>(*made.release()));
}

}  // namespace takt::emulated
