// What hwloc tells of a host, from a machine that is made up: two processors, a GPU beside a card behind the second.
#include "core/device/host_topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace takt {
namespace {

using ::testing::ElementsAre;

constexpr std::string_view kMachine = R"(<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
 <object type="Machine" os_index="0" cpuset="0xf" complete_cpuset="0xf" allowed_cpuset="0xf" nodeset="0x3"
   complete_nodeset="0x3" allowed_nodeset="0x3" gp_index="1">
  <object type="Package" os_index="0" cpuset="0x3" complete_cpuset="0x3" nodeset="0x1" complete_nodeset="0x1" gp_index="2">
   <object type="NUMANode" os_index="0" cpuset="0x3" complete_cpuset="0x3" nodeset="0x1" complete_nodeset="0x1"
     gp_index="3" local_memory="1073741824"/>
   <object type="PU" os_index="0" cpuset="0x1" complete_cpuset="0x1" nodeset="0x1" complete_nodeset="0x1" gp_index="4"/>
   <object type="PU" os_index="1" cpuset="0x2" complete_cpuset="0x2" nodeset="0x1" complete_nodeset="0x1" gp_index="5"/>
  </object>
  <object type="Package" os_index="1" cpuset="0xc" complete_cpuset="0xc" nodeset="0x2" complete_nodeset="0x2" gp_index="6">
   <object type="NUMANode" os_index="1" cpuset="0xc" complete_cpuset="0xc" nodeset="0x2" complete_nodeset="0x2"
     gp_index="7" local_memory="1073741824"/>
   <object type="PU" os_index="2" cpuset="0x4" complete_cpuset="0x4" nodeset="0x2" complete_nodeset="0x2" gp_index="8"/>
   <object type="PU" os_index="3" cpuset="0x8" complete_cpuset="0x8" nodeset="0x2" complete_nodeset="0x2" gp_index="9"/>
   <object type="Bridge" gp_index="10" bridge_type="0-1" depth="0" bridge_pci="0000:[80-9f]">
    <object type="Bridge" gp_index="11" bridge_type="1-1" depth="1" bridge_pci="0000:[81-83]" pci_busid="0000:80:01.0"
      pci_type="0604 [8086:352a] [0000:0000] 04" pci_link_speed="63.0">
     <object type="PCIDev" gp_index="12" pci_busid="0000:81:00.0" pci_type="0302 [10de:2330] [10de:16c1] a1"
       pci_link_speed="63.0"/>
     <object type="PCIDev" gp_index="13" pci_busid="0000:82:00.0" pci_type="0207 [15b3:1021] [15b3:0041] 00"
       pci_link_speed="63.0">
      <object type="OSDev" gp_index="14" name="mlx5_0" osdev_type="3"/>
     </object>
    </object>
   </object>
  </object>
 </object>
</topology>
)";

class HostTopologyTest : public testing::Test {
 protected:
  HostTopologyTest() { std::ofstream(path_) << kMachine; }
  ~HostTopologyTest() override { std::filesystem::remove(path_); }

  const std::string path_ =
      testing::TempDir() + "takt_host_topology_test." + std::to_string(getpid()) + ".xml";
};

TEST_F(HostTopologyTest, NumaNodesHaveTheirProcessors) {
  const HostTopology host = read_host_topology({}, path_);
  ASSERT_EQ(host.numa_nodes.size(), 2u);
  EXPECT_THAT(host.numa_nodes[1].cpus, ElementsAre(2, 3));
}

TEST_F(HostTopologyTest, AGpuFindsItsPlaceAndTheCardBesideIt) {
  const HostTopology host = read_host_topology({{.pci_bus = "0000:81:00.0"}}, path_);
  const GpuInfo& gpu = host.gpus.at(0);
  EXPECT_THAT(gpu.bridges, ElementsAre("0000:80:01.0"));
  EXPECT_EQ(gpu.numa_node, 1);
  const std::vector<NicInfo> nics = nearest_nics(host, gpu);
  ASSERT_EQ(nics.size(), 1u);
  EXPECT_EQ(nics[0].name, "mlx5_0");
  EXPECT_EQ(nics[0].pci_bus, "0000:82:00.0");
  EXPECT_THAT(nics[0].bridges, ElementsAre("0000:80:01.0"));
}

TEST_F(HostTopologyTest, WhatCudaKnowsOfTheNumaNodeStands) {
  const HostTopology host = read_host_topology({{.pci_bus = "0000:81:00.0", .numa_node = 0}}, path_);
  EXPECT_EQ(host.gpus.at(0).numa_node, 0);
}

TEST_F(HostTopologyTest, AGpuThatTheHostDoesNotKnowStaysWithoutAPlace) {
  const HostTopology host = read_host_topology({{.pci_bus = "0000:99:00.0"}}, path_);
  EXPECT_TRUE(host.gpus.at(0).bridges.empty());
  EXPECT_EQ(host.gpus.at(0).numa_node, -1);
}

TEST(HostTopology, ThisMachineHasProcessors) {
  const HostTopology host = read_host_topology();
  ASSERT_FALSE(host.numa_nodes.empty());
  EXPECT_FALSE(host.numa_nodes.front().cpus.empty());
}

TEST(HostTopology, NoProcessorsBindNothing) {
  EXPECT_FALSE(bind_to_cpus({}));
}

}  // namespace
}  // namespace takt
