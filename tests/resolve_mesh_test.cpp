// Layouts that fit become meshes; others are refused with layouts that would fit.
#include "launch/resolve_mesh.h"

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace takt {
namespace {

MeshConfig layout(std::int64_t data, std::int64_t tensor) {
  return {.is_auto = false, .data = data, .tensor = tensor, .bucket_bytes = 0};
}

ExtentsToDivide heads(std::int64_t number) {
  return [number](const Axis& axis) {
    if (axis == "tensor") return std::vector<Dim>{{"heads", number}};
    return axis == "context" ? std::vector<Dim>{{"seq", 12}} : std::vector<Dim>{};
  };
}

std::string refusal(const MeshConfig& config, int num_ranks, const ExtentsToDivide& extents) {
  try {
    resolve_mesh(config, num_ranks, extents);
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig);
    return error.what();
  }
  return "accepted";
}

TEST(ResolveMesh, AutoPutsAllRanksOnData) {
  EXPECT_EQ(to_string(resolve_mesh({}, 6, heads(4))), "data=6 tensor=1");
  EXPECT_EQ(to_string(resolve_mesh({}, 1, heads(4))), "data=1 tensor=1");
}

TEST(ResolveMesh, DataIsWhatTensorLeaves) {
  EXPECT_EQ(to_string(resolve_mesh(layout(0, 2), 8, heads(4))), "data=4 tensor=2");
}

TEST(ResolveMesh, BothAxesAreTakenAsGiven) {
  EXPECT_EQ(to_string(resolve_mesh(layout(2, 4), 8, heads(4))), "data=2 tensor=4");
}

TEST(ResolveMesh, RanksThatDoNotSplitAreRefusedWithTheNearestLayouts) {
  EXPECT_EQ(refusal(layout(0, 5), 24, heads(24)),
            "mesh: 24 ranks cannot be split as tensor=5 (24 is not a multiple of 5)\n"
            "  nearest that fit: tensor=4 data=6 | tensor=6 data=4 | tensor=3 data=8");
}

TEST(ResolveMesh, OnlyTensorSizesThatDivideTheHeadsAreOffered) {
  EXPECT_EQ(refusal(layout(0, 5), 24, heads(8)),
            "mesh: 24 ranks cannot be split as tensor=5 (24 is not a multiple of 5)\n"
            "  nearest that fit: tensor=4 data=6 | tensor=2 data=12 | tensor=8 data=3");
}

TEST(ResolveMesh, AProductOtherThanTheRanksIsRefused) {
  EXPECT_EQ(refusal(layout(4, 1), 2, heads(4)),
            "mesh: 2 ranks cannot be split as data=4 x tensor=1 (= 4)\n"
            "  nearest that fit: tensor=1 data=2 | tensor=2 data=1");
}

TEST(ResolveMesh, MoreTensorThanRanksIsRefused) {
  EXPECT_EQ(refusal(layout(0, 2), 1, heads(4)),
            "mesh: 1 rank cannot be split as tensor=2 (1 is not a multiple of 2)\n"
            "  nearest that fit: tensor=1 data=1");
}

TEST(ResolveMesh, TokensAreSplitOverContext) {
  MeshConfig config = layout(0, 2);
  config.context = 3;
  EXPECT_EQ(to_string(resolve_mesh(config, 12, heads(4))), "data=2 context=3 tensor=2");
  config.context = 5;
  EXPECT_EQ(refusal(config, 10, heads(4)),
            "mesh: context=5 does not divide the model's 12 seq\n  nearest that fit: tensor=2 data=1 | "
            "tensor=1 data=2");
}

TEST(ResolveMesh, ShardGroupsAreReplicas) {
  MeshConfig config = layout(4, 1);
  config.shard = "parameters";
  config.shard_group = 2;
  EXPECT_EQ(to_string(resolve_mesh(config, 4, heads(4))), "replica=2 data=2 tensor=1");
  config.shard_group = 3;
  EXPECT_NE(refusal(config, 4, heads(4)).find("data=4 is not a multiple of 3"), std::string::npos);
  config.shard = "none";
  EXPECT_NE(refusal(config, 4, heads(4)).find("share nothing"), std::string::npos) << "never ignored";
}

TEST(ResolveMesh, HeadsThatDoNotSplitAreRefused) {
  EXPECT_EQ(refusal(layout(0, 4), 4, heads(6)),
            "mesh: tensor=4 does not divide the model's 6 heads\n"
            "  nearest that fit: tensor=2 data=2 | tensor=1 data=4");
}

TEST(ResolveMesh, FewerKeyAndValueHeadsThanTensorRanksAreKeptWhole) {
  EXPECT_EQ(refusal(layout(0, 4), 4, heads(8)), "accepted");
  EXPECT_EQ(refusal(layout(0, 2), 2, heads(8)), "accepted");
}

MeshConfig with_experts(std::int64_t data, std::int64_t expert, std::int64_t tensor) {
  MeshConfig config = layout(data, tensor);
  config.expert = expert;
  return config;
}

std::string resolved(const MeshConfig& config, int num_ranks, std::int64_t experts) {
  try {
    return to_string(resolve_mesh(config, num_ranks, [&](const Axis& axis) {
      return axis == "expert" ? std::vector<Dim>{{"expert", experts}} : heads(4)(axis);
    }));
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig);
    return error.what();
  }
}

TEST(ResolveMesh, ExpertStandsBetweenDataAndTensor) {
  EXPECT_EQ(resolved(with_experts(2, 2, 2), 8, 4), "data=2 expert=2 tensor=2");
  EXPECT_EQ(resolved(with_experts(0, 4, 1), 8, 4), "data=2 expert=4 tensor=1");
  MeshConfig grouped = with_experts(4, 2, 1);
  grouped.shard = "optimizer";
  grouped.shard_group = 2;
  EXPECT_EQ(resolved(grouped, 8, 4), "replica=2 data=2 expert=2 tensor=1");
}

TEST(ResolveMesh, ExpertsThatDoNotSplitAreRefusedWithTheNearestLayouts) {
  EXPECT_EQ(resolved(with_experts(0, 4, 1), 8, 6),
            "mesh: expert=4 does not divide the model's 6 experts\n"
            "  nearest that fit: tensor=1 expert=2 data=4 | tensor=1 data=8 | tensor=2 expert=2 data=2");
  EXPECT_EQ(
      resolved(with_experts(0, 2, 3), 8, 4),
      "mesh: 8 ranks cannot be split as expert=2 x tensor=3 (8 is not a multiple of 6)\n"
      "  nearest that fit: tensor=2 expert=2 data=2 | tensor=4 expert=2 data=1 | tensor=1 expert=2 data=4");
  EXPECT_EQ(resolved(with_experts(2, 2, 1), 8, 4),
            "mesh: 8 ranks cannot be split as data=2 x expert=2 x tensor=1 (= 4)\n"
            "  nearest that fit: tensor=1 expert=2 data=4 | tensor=1 data=8 | tensor=2 expert=2 data=2");
}

TEST(ResolveMesh, AModelWithoutExpertsHasNoneToShare) {
  EXPECT_EQ(refusal(with_experts(0, 2, 1), 4, heads(4)),
            "mesh: expert=2, but the model has no experts to share\n"
            "  nearest that fit: tensor=1 data=4 | tensor=2 data=2 | tensor=4 data=1");
}

}  // namespace
}  // namespace takt
