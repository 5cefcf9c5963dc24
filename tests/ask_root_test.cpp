// Ranks go the root's way, whatever they see themselves.
#include "launch/ask_root.h"

#include <gtest/gtest.h>

#include "collectives/local.h"
#include "core/base/error.h"

namespace takt {
namespace {

TEST(AskRoot, EveryRankHasTheRootsAnswer) {
  run_ranks(3, [](Communicator& comm) {
    EXPECT_EQ(ask_root(comm, [&] { return "rank " + std::to_string(comm.rank()); }), "rank 0");
    EXPECT_EQ(ask_root(comm, [&] { return std::string(); }), "");
    EXPECT_TRUE(ask_root_whether(comm, [&] { return comm.rank() == 0; }));
    EXPECT_FALSE(ask_root_whether(comm, [&] { return comm.rank() != 0; }));
  });
}

TEST(AskRoot, ARootThatFailsFailsEveryRank) {
  run_ranks(3, [](Communicator& comm) {
    try {
      ask_root_whether(comm, [&]() -> bool { fail(Fault::kIo, "the disk is gone"); });
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::kIo);
      EXPECT_TRUE(error.agreed());
    }
  });
}

}  // namespace
}  // namespace takt
