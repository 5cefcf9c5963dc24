// Which device a run takes, and which GPU each of its ranks. The GPUs are made up; ranks are threads.
#include "launch/device_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "collectives/local.h"
#include "core/base/error.h"

namespace takt {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

CudaSupport gpus(std::vector<std::string> uuids, const std::string& fabric = {}) {
  CudaSupport cuda;
  for (std::string& uuid : uuids)
    cuda.gpus.push_back(
        {.ordinal = static_cast<int>(cuda.gpus.size()), .uuid = std::move(uuid), .fabric = fabric});
  return cuda;
}

template <class Action>
std::string refusal(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig);
    return error.what();
  }
  return "accepted";
}

TEST(ChooseBackend, TheCpuNeedsNothing) {
  EXPECT_EQ(choose_backend("cpu", {.problem = "no driver"}), DeviceKind::kCpu);
  EXPECT_EQ(choose_backend("auto", {.problem = "no driver"}), DeviceKind::kCpu);
}

TEST(ChooseBackend, CudaIsRefusedOnOneLineWithTheReason) {
  const std::string text =
      refusal([] { choose_backend("cuda", {.problem = "no NVIDIA driver is installed here"}); });
  EXPECT_EQ(text, "device.backend = \"cuda\": no NVIDIA driver is installed here");
}

TEST(FindCuda, ABuildWithoutCudaNamesTheBuildOption) {
  if (is_cuda_built_in()) GTEST_SKIP() << "this build has CUDA";
  EXPECT_THAT(find_cuda().problem, HasSubstr("-DTAKT_CUDA=ON"));
  EXPECT_THAT(find_cuda().problem, Not(HasSubstr("\n")));
}

TEST(ChooseGpu, RanksOfAHostTakeItsGpusInTurn) {
  std::array<std::string, 4> taken;
  run_ranks(4, [&](Communicator& comm) {
    const int host = comm.rank() / 2;
    const CudaSupport cuda = gpus({concat(host, "a"), concat(host, "b")});
    taken[static_cast<std::size_t>(comm.rank())] =
        choose_gpu(cuda, {}, {.all = comm, .host = "node", .host_number = host}).gpu.uuid;
  });
  EXPECT_THAT(taken, testing::ElementsAre("0a", "0b", "1a", "1b"));
}

TEST(ChooseGpu, AllRanksRefuseWhatOneHostCannotDo) {
  std::array<std::string, 3> texts;
  run_ranks(3, [&](Communicator& comm) {
    const RankPlace place{.all = comm, .host = "node07", .host_number = comm.rank() / 2};
    texts[static_cast<std::size_t>(comm.rank())] = refusal([&] { choose_gpu(gpus({"a"}), {}, place); });
  });
  for (const std::string& text : texts) EXPECT_THAT(text, HasSubstr("start one rank a GPU"));
}

TEST(ChooseGpu, WhatTheLauncherShowsIsReadFromTheEnvironment) {
  run_ranks(1, [&](Communicator& comm) {
    const RankPlace place{.all = comm, .host = "node07"};
    const auto choose = [&](const std::string& entry) {
      choose_gpu(gpus({"a"}), {"PATH=/bin", entry}, place);
    };
    EXPECT_EQ(refusal([&] { choose("CUDA_VISIBLE_DEVICES=3"); }), "accepted");
    EXPECT_THAT(refusal([&] { choose("CUDA_VISIBLE_DEVICES=0,9"); }),
                HasSubstr("names 2 GPUs, but rank 0 sees 1"));
  });
}

TEST(ChooseGpu, AFabricOverHostsIsOneDomain) {
  std::array<int, 4> domains = {};
  run_ranks(4, [&](Communicator& comm) {
    const CudaSupport cuda = gpus({concat(comm.rank())}, comm.rank() < 2 ? "rack" : "");
    const RankPlace place{.all = comm, .host = "tray", .host_number = comm.rank()};
    domains[static_cast<std::size_t>(comm.rank())] = choose_gpu(cuda, {}, place).domain;
  });
  EXPECT_THAT(domains, testing::ElementsAre(0, 0, 1, 2));
}

}  // namespace
}  // namespace takt
