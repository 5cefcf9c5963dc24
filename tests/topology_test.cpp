// Which GPU, processors and network cards a rank gets, on machines that are made up.
#include "core/device/topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "core/base/error.h"

namespace takt {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

NumaNode numa_node(int number, int first_cpu, int num_cpus) {
  NumaNode node{.number = number, .cpus = std::vector<int>(static_cast<std::size_t>(num_cpus))};
  std::iota(node.cpus.begin(), node.cpus.end(), first_cpu);
  return node;
}

std::string uuid(int gpu) {
  return concat("GPU-", gpu);
}

// Two processors of 56 cores; each pair of a GPU and a network card is behind a switch of its own.
HostTopology dgx_h100() {
  HostTopology host{.numa_nodes = {numa_node(0, 0, 56), numa_node(1, 56, 56)}};
  for (int i = 0; i < 8; ++i) {
    const std::vector<std::string> bridges = {concat("root", i), concat("switch", i)};
    host.gpus.push_back({.ordinal = i,
                         .name = "NVIDIA H100 80GB HBM3",
                         .uuid = uuid(i),
                         .bridges = bridges,
                         .compute_capability = 90,
                         .numa_node = i / 4,
                         .link = GpuLink::kNvlink});
    host.nics.push_back({.name = concat("mlx5_", i), .bridges = bridges, .numa_node = i / 4});
  }
  return host;
}

// Two Grace processors, two GPUs each, which are no PCI neighbours of anything; nodes 2 and up are the GPUs' memory.
HostTopology gb200_tray(const std::string& fabric) {
  HostTopology host{.numa_nodes = {numa_node(0, 0, 72), numa_node(1, 72, 72), numa_node(2, 0, 0)}};
  for (int i = 0; i < 4; ++i) {
    host.gpus.push_back({.ordinal = i,
                         .name = "NVIDIA GB200",
                         .uuid = uuid(i),
                         .compute_capability = 100,
                         .numa_node = i / 2,
                         .link = GpuLink::kFabric,
                         .fabric = fabric});
    host.nics.push_back({.name = concat("mlx5_", i), .bridges = {concat("root", i)}, .numa_node = i / 2});
  }
  return host;
}

HostTopology rtx_pro_server() {
  HostTopology host{.numa_nodes = {numa_node(0, 0, 32), numa_node(1, 32, 32)}};
  for (int i = 0; i < 8; ++i)
    host.gpus.push_back({.ordinal = i,
                         .name = "NVIDIA RTX PRO 6000 Blackwell Server Edition",
                         .uuid = uuid(i),
                         .compute_capability = 120,
                         .numa_node = i / 4});
  host.nics = {{.name = "mlx5_0", .numa_node = 0}};
  return host;
}

std::vector<std::string> names(const std::vector<NicInfo>& nics) {
  std::vector<std::string> names;
  for (const NicInfo& nic : nics) names.push_back(nic.name);
  return names;
}

std::vector<VisibleGpus> ranks_that_see(const HostTopology& host, int num_ranks) {
  std::vector<VisibleGpus> ranks;
  for (int rank = 0; rank < num_ranks; ++rank) {
    ranks.push_back({.rank = rank});
    for (const GpuInfo& gpu : host.gpus) ranks.back().uuids.push_back(gpu.uuid);
  }
  return ranks;
}

std::string refusal(const std::vector<VisibleGpus>& ranks) {
  try {
    choose_gpus(ranks, "node07");
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig);
    return error.what();
  }
  return "accepted";
}

TEST(Topology, MachinesAreRecognized) {
  EXPECT_EQ(machine_of(dgx_h100()), "h100-hgx");
  EXPECT_EQ(machine_of(gb200_tray("rack")), "gb200-nvl72");
  EXPECT_EQ(machine_of(rtx_pro_server()), "rtx-pro-server");
  EXPECT_EQ(machine_of(HostTopology()), std::nullopt);
}

TEST(Topology, AMachineWithTwoKindsOfGpusIsNoKnownOne) {
  HostTopology host = dgx_h100();
  host.gpus.back().name = "NVIDIA L4";
  EXPECT_EQ(machine_of(host), std::nullopt);
}

TEST(Topology, AnH100OnPcieIsNoHgx) {
  HostTopology host = dgx_h100();
  for (GpuInfo& gpu : host.gpus) gpu.link = GpuLink::kPcie;
  EXPECT_EQ(machine_of(host), std::nullopt);
}

TEST(Topology, TheNicBehindTheSameSwitchIsNearest) {
  const HostTopology host = dgx_h100();
  EXPECT_THAT(names(nearest_nics(host, host.gpus[5])), ElementsAre("mlx5_5"));
}

TEST(Topology, WithoutACommonSwitchTheNicsOfTheNumaNodeAreNearest) {
  const HostTopology host = gb200_tray("rack");
  EXPECT_THAT(names(nearest_nics(host, host.gpus[2])), ElementsAre("mlx5_2", "mlx5_3"));
}

TEST(Topology, AFarNicIsBetterThanNone) {
  const HostTopology host = rtx_pro_server();
  EXPECT_THAT(names(nearest_nics(host, host.gpus[7])), ElementsAre("mlx5_0"));
}

TEST(Topology, RanksShareTheProcessorsOfTheirNumaNode) {
  const HostTopology host = dgx_h100();
  const NumaNode& node = *host.find_numa_node(1);
  EXPECT_EQ(share_of_cpus(node, 0, 4).front(), 56);
  EXPECT_EQ(share_of_cpus(node, 3, 4).back(), 111);
  EXPECT_EQ(share_of_cpus(node, 3, 4).size(), 14u);
}

TEST(Topology, TheMemoryOfAGpuHasNoProcessorsToShare) {
  const HostTopology host = gb200_tray("rack");
  EXPECT_THAT(share_of_cpus(*host.find_numa_node(2), 0, 1), IsEmpty());
  EXPECT_EQ(host.find_numa_node(9), nullptr);
}

TEST(ChooseGpus, RanksTakeWhatTheyAllSeeInTurn) {
  EXPECT_THAT(choose_gpus(ranks_that_see(gb200_tray("rack"), 4), "tray"), ElementsAre(0, 1, 2, 3));
}

TEST(ChooseGpus, ARankToWhichTheLauncherShowsOneGpuTakesIt) {
  const std::vector<VisibleGpus> ranks = {{.rank = 4, .uuids = {uuid(0)}, .filter = "0"},
                                          {.rank = 5, .uuids = {uuid(1)}, .filter = "1"}};
  EXPECT_THAT(choose_gpus(ranks, "node07"), ElementsAre(0, 0));
}

TEST(ChooseGpus, MoreRanksThanGpusAreRefusedWithTheFix) {
  const std::string text = refusal(ranks_that_see({.gpus = {{.uuid = uuid(0)}}}, 2));
  EXPECT_THAT(text, HasSubstr("rank 1 is number 2 of the ranks on node07 that see the same 1 GPU"));
  EXPECT_THAT(text, HasSubstr("start one rank a GPU"));
}

TEST(ChooseGpus, TwoRanksOnOneGpuAreRefusedHoweverTheySeeIt) {
  const std::vector<VisibleGpus> ranks = {{.rank = 2, .uuids = {uuid(0), uuid(1)}},
                                          {.rank = 3, .uuids = {uuid(0)}, .filter = "0"}};
  EXPECT_THAT(refusal(ranks),
              HasSubstr("ranks 2 and 3 on node07 would share GPU GPU-0 (CUDA_VISIBLE_DEVICES=0)"));
}

TEST(ChooseGpus, ARankWithoutAGpuIsRefused) {
  EXPECT_THAT(refusal({{.rank = 0, .filter = "-1"}}),
              HasSubstr("sees no GPU on node07 (CUDA_VISIBLE_DEVICES=-1)"));
}

TEST(ChooseGpus, AFilterThatTheDriverCutsOffIsRefused) {
  EXPECT_NO_THROW(check_filter({.uuids = {uuid(0), uuid(1)}, .filter = "1,0"}));
  EXPECT_NO_THROW(check_filter({.uuids = {uuid(0)}}));
  EXPECT_NO_THROW(check_filter({.uuids = {}, .filter = ""}));
  EXPECT_THROW(check_filter({.uuids = {uuid(0), uuid(1)}, .filter = "0,1,9"}), Error);
}

TEST(FastDomains, AFabricSpansItsHostsAndNoOther) {
  const std::vector<GpuPlace> ranks = {
      {"tray0", "rack0"}, {"tray1", "rack0"}, {"tray18", "rack1"}, {"tray0", "rack0"}};
  EXPECT_THAT(fast_domains(ranks), ElementsAre(0, 0, 1, 0));
}

TEST(FastDomains, WithoutAFabricAHostIsADomain) {
  const std::vector<GpuPlace> ranks = {{"a", ""}, {"a", ""}, {"b", ""}};
  EXPECT_THAT(fast_domains(ranks), ElementsAre(0, 0, 1));
}

TEST(FastDomains, AHostThatIsCalledAsAFabricIsAnother) {
  const std::vector<GpuPlace> ranks = {{"a", ""}, {"b", "a"}};
  EXPECT_THAT(fast_domains(ranks), ElementsAre(0, 1));
}

}  // namespace
}  // namespace takt
