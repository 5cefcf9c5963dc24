// Started collectives that the verifier and the plan refuse: each test is what one check is for.
#include "core/graph/started.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "core/ops/builders.h"
#include "core/passes/step_plan.h"

namespace takt {
namespace {

TensorDesc row(std::int64_t extent) {
  return {{{"embed", extent}}, DType::kF32};
}

// x is reduced on stream 1; what comes between the start and its done is up to the test.
class Started {
 public:
  Started() : x(graph.persistent("x", row(4), Role::kAccumulator)) {}

  ValueId start(ValueId input) {
    Node node{
        .op = &all_reduce_op(), .name = "reduced", .inputs = {input}, .mesh_axes = {"data"}, .stream = 1};
    node.attrs.set("op", std::string("sum"));
    const Value output{.name = "reduced", .desc = graph.value(input).desc};
    return graph.append_placed(std::move(node), {output}).front();
  }
  ValueId finish(ValueId started) { return graph.append_one(done_op(), {started}, {}, "reduced"); }

  Graph graph;
  ValueId x;
};

std::string refusal(const Graph& graph) {
  try {
    verify(graph, "schedule");
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(VerifyStarts, AcceptsAPair) {
  Started s;
  s.graph.mark_output(s.finish(s.start(s.x)));
  EXPECT_EQ(refusal(s.graph), "accepted");
}

TEST(VerifyStarts, RefusesAStartWithoutDone) {
  Started s;
  s.start(s.x);
  EXPECT_THAT(refusal(s.graph), testing::HasSubstr("never done"));
}

TEST(VerifyStarts, RefusesTwoDones) {
  Started s;
  const ValueId started = s.start(s.x);
  s.finish(started);
  s.finish(started);
  EXPECT_THAT(refusal(s.graph), testing::HasSubstr("done twice"));
}

TEST(VerifyStarts, RefusesADoneOfSomethingElse) {
  Started s;
  s.finish(scale(s.graph, s.x, 2.0, "y"));
  EXPECT_THAT(refusal(s.graph), testing::HasSubstr("does not read what one started collective writes"));
}

TEST(VerifyStarts, RefusesAReaderThatDoesNotWait) {
  Started s;
  const ValueId started = s.start(s.x);
  scale(s.graph, started, 2.0, "early");
  s.finish(started);
  EXPECT_THAT(refusal(s.graph), testing::HasSubstr("'early' reads 'reduced' beside the done"));
}

TEST(VerifyStarts, RefusesAnOutputThatDoesNotWait) {
  Started s;
  const ValueId started = s.start(s.x);
  s.finish(started);
  s.graph.mark_output(started);
  EXPECT_THAT(refusal(s.graph), testing::HasSubstr("output 'reduced' is read before"));
}

TEST(VerifyStarts, RefusesToOverwriteWhatAStartedCollectiveReads) {
  Started s;
  const ValueId started = s.start(s.x);
  accumulate(s.graph, s.x, s.graph.input("more", row(4)), "overwriting");
  s.finish(started);
  EXPECT_THAT(refusal(s.graph), testing::HasSubstr("'overwriting' overwrites 'x'"));
}

TEST(VerifyStarts, RefusesComputationOnAStreamThatCommunicates) {
  Started s;
  const Value output{.name = "y", .desc = row(4)};
  Node node{.op = &scale_op(), .name = "astray", .inputs = {s.x}, .attrs = {{"factor", 2.0}}, .stream = 1};
  s.graph.append_placed(std::move(node), {output});
  EXPECT_THAT(refusal(s.graph), testing::HasSubstr("'astray' (scale) computes on stream 1"));
}

// A plan with a collective in flight while "between" is computed and "kept" waits for its reader; then one offset is
// moved onto another.
class MovedOffset : public testing::Test {
 protected:
  MovedOffset() {
    Started s;
    const ValueId a = s.graph.input("a", row(100)), b = s.graph.input("b", row(100));
    const ValueId x = scale(s.graph, a, 3.0, "x.scaled");
    const ValueId kept = scale(s.graph, b, 5.0, "kept");
    const ValueId started = s.start(x);
    const ValueId between = scale(s.graph, b, 7.0, "between");
    const ValueId reduced = s.finish(started);
    // x is read again, so that it is not overwritten.
    s.graph.mark_output(add(s.graph, {reduced, between, kept, x}, "sum"));
    plan_.mesh = {{{"data", 2}}};
    add_program(plan_, "program", s.graph);
    finish(plan_);
    ids_ = {{"x", x}, {"kept", kept}, {"started", started}, {"between", between}};
  }

  std::size_t& offset(const std::string& name) {
    return plan_.arena.programs[0].value_offsets[static_cast<std::size_t>(ids_.at(name).index)];
  }
  std::string refusal() const {
    try {
      verify(plan_);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }

  StepPlan plan_;
  std::map<std::string, ValueId> ids_;
};

TEST_F(MovedOffset, IsAcceptedWhereItIs) {
  EXPECT_EQ(refusal(), "accepted");
}

TEST_F(MovedOffset, RefusesANodeThatWritesWhereACollectiveWrites) {
  offset("between") = offset("started");
  EXPECT_THAT(refusal(), testing::HasSubstr("'reduced' has been overwritten"));
}

TEST_F(MovedOffset, RefusesANodeThatWritesPartOfWhatACollectiveReads) {
  offset("between") = offset("x") + kArenaAlignment;
  EXPECT_THAT(refusal(), testing::HasSubstr("'x.scaled' has been overwritten"));
}

TEST_F(MovedOffset, RefusesACollectiveThatWritesOverWhatWaits) {
  offset("kept") = offset("started");
  EXPECT_THAT(refusal(), testing::HasSubstr("overwritten"));
}

}  // namespace
}  // namespace takt
