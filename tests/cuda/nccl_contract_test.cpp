// The contract of Communicator, run on the nccl backend. The contract's buffers are the host's, so that each call is staged:
// copied to the device, queued, waited for, copied back. Calls are compared before they are queued, because the contract
// wants groups that can be used after a mismatch.
#include <gtest/gtest.h>

#include <cstring>
#include <tuple>

#include "tests/communicator_contract.h"
#include "tests/emulated/nccl_ranks.h"

namespace takt::emulated {
namespace {

using Bytes = std::vector<std::byte>;

class Staged final : public Communicator {
 public:
  explicit Staged(DeviceCommunicator& comm) : comm_(comm) {}
  explicit Staged(std::unique_ptr<DeviceCommunicator> comm) : owned_(std::move(comm)), comm_(*owned_) {}

  std::string_view backend() const override { return comm_.backend(); }
  int rank() const override { return comm_.rank(); }
  int size() const override { return comm_.size(); }

  void all_reduce(void* buffer, std::size_t num_elements, DType dtype, ReduceOp op,
                  const CallSite& at) override {
    in_place(buffer, num_elements * takt::num_bytes(dtype),
             [&](void* data) { comm_.all_reduce(data, num_elements, dtype, op, on_stream(at)); });
  }
  void all_gather(const void* send, void* receive, std::size_t num_elements, DType dtype,
                  const CallSite& at) override {
    const std::size_t num_bytes = num_elements * takt::num_bytes(dtype);
    apart(send, num_bytes, receive, num_bytes * ranks(), [&](const void* from, void* to) {
      comm_.all_gather(from, to, num_elements, dtype, on_stream(at));
    });
  }
  void reduce_scatter(const void* send, void* receive, std::size_t num_elements, DType dtype, ReduceOp op,
                      const CallSite& at) override {
    const std::size_t num_bytes = num_elements * takt::num_bytes(dtype);
    apart(send, num_bytes * ranks(), receive, num_bytes, [&](const void* from, void* to) {
      comm_.reduce_scatter(from, to, num_elements, dtype, op, on_stream(at));
    });
  }
  void all_to_all(const void* send, void* receive, std::size_t num_elements, DType dtype,
                  const CallSite& at) override {
    const std::size_t num_bytes = num_elements * takt::num_bytes(dtype) * ranks();
    apart(send, num_bytes, receive, num_bytes, [&](const void* from, void* to) {
      comm_.all_to_all(from, to, num_elements, dtype, on_stream(at));
    });
  }
  void broadcast(void* buffer, std::size_t num_elements, DType dtype, int root, const CallSite& at) override {
    in_place(buffer, num_elements * takt::num_bytes(dtype),
             [&](void* data) { comm_.broadcast(data, num_elements, dtype, root, on_stream(at)); });
  }
  void send(const void* buffer, std::size_t num_elements, DType dtype, int to, const CallSite& at) override {
    const std::size_t num_bytes = num_elements * takt::num_bytes(dtype);
    apart(buffer, num_bytes, nullptr, 0,
          [&](const void* from, void*) { comm_.send(from, num_elements, dtype, to, on_stream(at)); });
  }
  void receive(void* buffer, std::size_t num_elements, DType dtype, int from, const CallSite& at) override {
    in_place(buffer, num_elements * takt::num_bytes(dtype),
             [&](void* data) { comm_.receive(data, num_elements, dtype, from, on_stream(at)); });
  }
  void barrier(const CallSite& at) override {
    comm_.barrier(on_stream(at));
    comm_.wait(stream_.get());
  }
  std::unique_ptr<Communicator> split(int color, std::string_view name) override {
    return std::make_unique<Staged>(split_device(comm_, color, name));
  }

 private:
  std::size_t ranks() const { return static_cast<std::size_t>(size()); }
  CallSite on_stream(const CallSite& at) const { return {.value = at.value, .stream = stream_.get()}; }

  template <class Call>
  void in_place(void* buffer, std::size_t num_bytes, const Call& call) {
    apart(buffer, num_bytes, buffer, num_bytes, [&](const void*, void* data) { call(data); });
  }

  template <class Call>
  void apart(const void* send, std::size_t num_send, void* receive, std::size_t num_receive,
             const Call& call) {
    const auto* const from = static_cast<const std::byte*>(send);
    const Buffer<std::byte> sent(Bytes(from, from + num_send));
    const Buffer<std::byte> received(receive == send ? Bytes(from, from + num_send) : Bytes(num_receive));
    call(sent.data(), received.data());
    comm_.wait(stream_.get());
    if (num_receive > 0) std::memcpy(receive, received.get().data(), num_receive);
  }

  std::unique_ptr<DeviceCommunicator> owned_;
  DeviceCommunicator& comm_;
  CudaStream stream_;
};

class NcclContract : public EmulatedRanks,
                     public testing::WithParamInterface<std::tuple<int, contract::Check>> {};

TEST_P(NcclContract, Holds) {
  const auto& [num_ranks, check] = GetParam();
  run_gpu_ranks(num_ranks, {.check = takt::NcclSettings::Check::kEachCall},
                [&](Communicator&, DeviceCommunicator& comm) {
                  Staged staged(comm);
                  check.run(staged);
                });
}

// All but one: NCCL reduces bf16.
std::vector<contract::Check> checks() {
  std::vector<contract::Check> all(std::begin(contract::kChecks), std::end(contract::kChecks));
  std::erase_if(all, [](const contract::Check& check) {
    return std::string(check.name) == "ReducingBf16IsAnErrorThatNamesIt";
  });
  return all;
}

INSTANTIATE_TEST_SUITE_P(Nccl, NcclContract,
                         testing::Combine(testing::Values(1, 2, 4, 8), testing::ValuesIn(checks())),
                         [](const auto& chosen) {
                           return concat(std::get<1>(chosen.param).name, "On", std::get<0>(chosen.param));
                         });

}  // namespace
}  // namespace takt::emulated
