// Comparing calls after they were made: what ranks called alike passes, what they did not is named on every rank.
#include "collectives/call_digest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "collectives/call_signer.h"
#include "collectives/local.h"
#include "core/base/error.h"
#include "tests/communicator_contract.h"

namespace takt {
namespace {

using contract::error_of;
using testing::AllOf;
using testing::HasSubstr;

// What one rank has called, and with whom it compares.
struct Caller {
  Communicator& host;
  CallSigner signer;
  CallDigest digest;

  explicit Caller(Communicator& comm, CallLog& log)
      : host(comm),
        signer({.group = "data[0]",
                .rank = comm.rank(),
                .num_ranks = comm.size(),
                .run_rank = comm.rank(),
                .log = &log}),
        digest(comm.size()) {}

  void reduce(std::size_t num_elements, const std::string& value) {
    digest.add(signer.sign_reduction(Operation::kAllReduce, num_elements, DType::kF32, ReduceOp::kSum,
                                     {.value = value}));
  }
  void message(Operation operation, int peer, std::size_t num_elements) {
    digest.add(signer.sign_message(operation, num_elements, DType::kF32, peer, {.value = "activation"}));
  }
};

void run_callers(int num_ranks, const std::function<void(Caller&)>& body) {
  run_ranks(num_ranks, [&](Communicator& host) {
    CallLog log;
    Caller caller(host, log);
    body(caller);
  });
}

TEST(CallDigest, SameCallsPassAndStartAnew) {
  for (const int num_ranks : {1, 2, 5})
    run_callers(num_ranks, [](Caller& caller) {
      for (int step = 0; step < 3; ++step) {
        for (int call = 0; call < 4; ++call) caller.reduce(7, "grad");
        const int rank = caller.host.rank();
        if (rank + 1 < caller.host.size()) caller.message(Operation::kSend, rank + 1, 9);
        if (rank > 0) caller.message(Operation::kReceive, rank - 1, 9);
        caller.digest.compare(caller.host);
      }
    });
}

TEST(CallDigest, TheFirstCallsThatDifferAreNamedOnEveryRank) {
  run_callers(4, [](Caller& caller) {
    const bool is_other = caller.host.rank() == 2;
    caller.reduce(7, "grad");
    caller.reduce(7, is_other ? "bias" : "weight");
    caller.reduce(is_other ? 6 : 7, "more");
    const Error error = error_of([&] { caller.digest.compare(caller.host); });
    EXPECT_EQ(error.fault(), Fault::kPeer);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("ranks 0 and 2 do not make the same call"),
                                    HasSubstr("'weight' #1"), HasSubstr("'bias' #1")));
  });
}

TEST(CallDigest, TheOrderOfCallsCounts) {
  run_callers(2, [](Caller& caller) {
    const bool is_other = caller.host.rank() == 1;
    caller.reduce(7, is_other ? "b" : "a");
    caller.reduce(7, is_other ? "a" : "b");
    EXPECT_EQ(error_of([&] { caller.digest.compare(caller.host); }).fault(), Fault::kPeer);
  });
}

TEST(CallDigest, ACallThatOneRankDidNotMakeIsNamed) {
  run_callers(3, [](Caller& caller) {
    caller.reduce(7, "grad");
    if (caller.host.rank() != 1) caller.reduce(7, "bias");
    const Error error = error_of([&] { caller.digest.compare(caller.host); });
    EXPECT_EQ(error.fault(), Fault::kPeer);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("its rank 1 made 1 calls"), HasSubstr("'bias' #1")));
  });
}

TEST(CallDigest, MessagesThatDoNotFitAreNamedOnEveryRank) {
  run_callers(4, [](Caller& caller) {
    if (caller.host.rank() == 1) caller.message(Operation::kSend, 3, 8);
    if (caller.host.rank() == 3) caller.message(Operation::kReceive, 1, 7);
    const Error error = error_of([&] { caller.digest.compare(caller.host); });
    EXPECT_EQ(error.fault(), Fault::kPeer);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("send f32 x 8"), HasSubstr("receive f32 x 7")));
  });
  run_callers(2, [](Caller& caller) {
    if (caller.host.rank() == 1) caller.message(Operation::kSend, 0, 8);
    const Error error = error_of([&] { caller.digest.compare(caller.host); });
    EXPECT_EQ(error.fault(), Fault::kPeer);
    EXPECT_THAT(error.what(), HasSubstr("rank 1 made a call that its peer has no counterpart for"));
  });
}

}  // namespace
}  // namespace takt
