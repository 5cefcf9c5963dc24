// The collectives that need no MPI run: the contract on threads, signatures, reductions and the launcher check.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "collectives/bootstrap.h"
#include "collectives/host_layout.h"
#include "collectives/local.h"
#include "collectives/reduce.h"
#include "collectives/registry.h"
#include "collectives/signature.h"
#include "core/base/error.h"
#include "tests/communicator_contract.h"

namespace takt {
namespace {

using contract::contains;
using contract::error_of;

class LocalContract : public testing::TestWithParam<std::tuple<int, contract::Check>> {};

TEST_P(LocalContract, Holds) {
  run_ranks(std::get<0>(GetParam()), std::get<1>(GetParam()).run);
}

INSTANTIATE_TEST_SUITE_P(Local, LocalContract,
                         testing::Combine(testing::Values(1, 2, 3, 4, 8, 64),
                                          testing::ValuesIn(contract::kChecks)),
                         [](const auto& chosen) {
                           return concat(std::get<1>(chosen.param).name, "On", std::get<0>(chosen.param));
                         });

TEST(LocalRanks, RunInHundreds) {
  std::atomic<int> num_correct = 0;
  run_ranks(512, [&](Communicator& comm) {
    std::int32_t one = 1;
    comm.all_reduce(&one, 1, DType::kI32, ReduceOp::kSum, {.value = "ones"});
    if (one == 512) ++num_correct;
  });
  EXPECT_EQ(num_correct, 512);
}

TEST(LocalRanks, FailureWakesTheOthersAndTheFirstErrorIsRethrown) {
  std::atomic<int> num_woken = 0;
  const Error error = error_of([&] {
    run_ranks(8, [&](Communicator& comm) {
      if (comm.rank() == 5) fail(Fault::kData, "rank five has no data");
      const Error woken = error_of([&] { comm.barrier({.value = "start"}); });
      EXPECT_EQ(woken.fault(), Fault::kPeer);
      EXPECT_TRUE(contains(woken.what(), "rank 5 failed")) << woken.what();
      EXPECT_TRUE(contains(woken.what(), "barrier 'start' #0 in group world")) << woken.what();
      ++num_woken;
      throw woken;
    });
  });
  EXPECT_EQ(num_woken, 7);
  EXPECT_EQ(error.fault(), Fault::kData);
  EXPECT_STREQ(error.what(), "rank five has no data");
}

TEST(LocalRanks, FailureWakesRanksInSubgroupsAndMessages) {
  const Error error = error_of([&] {
    run_ranks(6, [](Communicator& comm) {
      const auto half = comm.split(comm.rank() / 3, "half");
      if (comm.rank() == 0) fail(Fault::kIo, "disk");
      float x = 0;
      if (comm.rank() == 1)
        comm.receive(&x, 1, DType::kF32, 2, {.value = "x"});
      else if (comm.rank() == 2)
        half->barrier({.value = "never"});
      else
        comm.barrier({.value = "never"});
    });
  });
  EXPECT_EQ(error.fault(), Fault::kIo);
}

TEST(LocalRanks, ARankThatReturnsEarlyIsNamed) {
  const Error error = error_of([&] {
    run_ranks(4, [](Communicator& comm) {
      if (comm.rank() != 2) comm.barrier({.value = "end"});
    });
  });
  EXPECT_EQ(error.fault(), Fault::kPeer);
  EXPECT_TRUE(contains(error.what(), "rank 2 has returned")) << error.what();
}

TEST(Signature, PrintsWhatTheCallAsksFor) {
  Signature call;
  call.operation = Operation::kAllReduce;
  call.num_elements = 4096;
  call.sequence = 18233;
  set_group(call, "data[5]");
  set_value(call, "layers.3.mlp.grad");
  EXPECT_EQ(to_string(call), "all_reduce sum f32 x 4096 'layers.3.mlp.grad' #18233 in group data[5]");
}

TEST(Signature, LongNamesAreCutButStillToldApart) {
  Signature a;
  Signature b;
  set_value(a, std::string(100, 'x') + "a");
  set_value(b, std::string(100, 'x') + "b");
  EXPECT_EQ(a.value, b.value);
  EXPECT_TRUE(contains(to_string(a), "xxx...'"));
  EXPECT_FALSE(same_call(a, b));
}

TEST(CallLog, KeepsTheLastCallsAndThePendingOne) {
  CallLog log;
  EXPECT_TRUE(log.recent().empty());
  Signature call;
  for (std::uint64_t i = 0; i < 100; ++i) {
    call.sequence = i;
    log.note_started(call);
    log.note_finished();
  }
  EXPECT_FALSE(log.pending());
  call.sequence = 100;
  log.note_started(call);
  const std::vector<Signature> recent = log.recent();
  ASSERT_EQ(recent.size(), CallLog::kCapacity);
  EXPECT_EQ(recent.front().sequence, 101 - CallLog::kCapacity);
  EXPECT_EQ(recent.back().sequence, 100u);
  ASSERT_TRUE(log.pending());
  EXPECT_EQ(log.pending()->sequence, 100u);
  EXPECT_EQ(log.num_calls(), 101u);
}

std::vector<std::vector<double>> ranks_data(int num_ranks, std::size_t num_elements) {
  std::vector<std::vector<double>> data;
  for (int rank = 0; rank < num_ranks; ++rank) data.push_back(contract::elements<double>(rank, num_elements));
  return data;
}

TEST(Reduce, WritesOntoAnyOfItsTerms) {
  for (const int num_ranks : {1, 2, 3, 4, 7, 8}) {
    for (std::size_t target = 0; target < static_cast<std::size_t>(num_ranks); ++target) {
      std::vector<std::vector<double>> data = ranks_data(num_ranks, 5000);
      std::vector<ReduceTerm> terms;
      for (const auto& rank : data) terms.push_back({rank.data()});
      reduce_in_tree_order(data[target].data(), terms, 5000, DType::kF64, ReduceOp::kSum);
      for (std::size_t i = 0; i < 5000; ++i)
        ASSERT_EQ(data[target][i], contract::reduced<double>(num_ranks, i, ReduceOp::kSum)) << target;
    }
  }
}

// Blocks of 2^k ranks, the last one shorter where they do not divide.
TEST(Reduce, GivesTheSameBitsHoweverTheTreeIsCutIntoTerms) {
  for (int num_ranks = 1; num_ranks <= 33; ++num_ranks) {
    const std::vector<std::vector<double>> data = ranks_data(num_ranks, 100);
    for (std::size_t block = 1; block <= 32; block *= 2) {
      std::vector<std::vector<double>> partial;
      std::vector<ReduceTerm> terms;
      for (std::size_t begin = 0; begin < data.size(); begin += block) {
        std::vector<ReduceTerm> members;
        for (std::size_t r = begin; r < std::min(begin + block, data.size()); ++r)
          members.push_back({data[r].data()});
        partial.emplace_back(100);
        reduce_in_tree_order(partial.back().data(), members, 100, DType::kF64, ReduceOp::kSum);
        terms.push_back({partial.back().data(), members.size()});
      }
      std::vector<double> out(100);
      reduce_in_tree_order(out.data(), terms, 100, DType::kF64, ReduceOp::kSum);
      for (std::size_t i = 0; i < 100; ++i)
        ASSERT_EQ(out[i], contract::reduced<double>(num_ranks, i, ReduceOp::kSum))
            << num_ranks << " " << block;
    }
  }
}

TEST(Reduce, RefusesATermThatIsNoNodeOfTheTree) {
  const double x = 1;
  const ReduceTerm terms[] = {{&x, 1}, {&x, 2}};
  double out = 0;
  EXPECT_EQ(error_of([&] { reduce_in_tree_order(&out, terms, 1, DType::kF64, ReduceOp::kSum); }).fault(),
            Fault::kBug);
}

TEST(Reduce, MaxKeepsANotANumber) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float a[] = {nan, 1.0f};
  const float b[] = {2.0f, nan};
  const ReduceTerm terms[] = {{a}, {b}};
  float out[2] = {};
  reduce_in_tree_order(out, terms, 2, DType::kF32, ReduceOp::kMax);
  EXPECT_TRUE(std::isnan(out[0]) && std::isnan(out[1]));
}

TEST(Reduce, SlicesCoverAllElementsOnce) {
  for (const std::size_t num : {0u, 1u, 7u, 64u, 1000u}) {
    std::size_t end = 0;
    for (int rank = 0; rank < 7; ++rank) {
      EXPECT_EQ(slice_of(num, rank, 7).begin, end);
      end = slice_of(num, rank, 7).end;
    }
    EXPECT_EQ(end, num);
  }
}

std::vector<std::pair<int, int>> nodes_of(std::vector<int> hosts) {
  std::vector<std::pair<int, int>> out;
  const HostLayout layout(hosts);
  for (const HostNode& node : layout.nodes()) out.emplace_back(node.host, node.num_ranks);
  return out;
}

TEST(HostLayout, CutsTheTreeWhereASubtreeLiesOnOneHost) {
  using Nodes = std::vector<std::pair<int, int>>;
  EXPECT_EQ(nodes_of({7, 7, 7, 7}), (Nodes{{0, 4}}));
  EXPECT_EQ(nodes_of({0, 0, 0, 0, 1, 1, 1, 1}), (Nodes{{0, 4}, {1, 4}}));
  EXPECT_EQ(nodes_of({0, 0, 1, 1, 2}), (Nodes{{0, 2}, {1, 2}, {2, 1}}));
  EXPECT_EQ(nodes_of({0, 0, 0, 1, 1, 1}), (Nodes{{0, 2}, {0, 1}, {1, 1}, {1, 2}}));
  EXPECT_EQ(nodes_of({5, 3, 5, 3}), (Nodes{{0, 1}, {1, 1}, {0, 1}, {1, 1}}));
}

TEST(HostLayout, CarriersOfAHostShareTheRanksOfAnotherEvenly) {
  const int hosts[] = {0, 0, 1, 1, 1, 1, 1, 2};
  const HostLayout layout(hosts);
  std::vector<int> num_carried(8);
  for (const int rank : layout.ranks_on(1)) ++num_carried[static_cast<std::size_t>(layout.carrier(rank, 0))];
  EXPECT_EQ(num_carried, (std::vector<int>{3, 2, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(layout.carrier(3, 1), 3);
  EXPECT_EQ(layout.carrier(3, 2), 7);
}

TEST(CollectiveBackends, AreInAlphabeticalOrder) {
  std::string last;
  for (const CollectiveBackend& backend : collective_backends()) {
    EXPECT_LT(last, backend.name);
    last = backend.name;
  }
}

TEST(CollectiveBackends, OfTheseRanksHoldTheContract) {
  run_ranks(3, [](Communicator& comm) {
    CallLog log;
    for (const contract::Check& check : contract::kChecks)
      check.run(*make_communicator(comm.backend(), {.control = comm, .log = log}));
  });
}

TEST(CollectiveBackends, ThatCannotBeUsedSayWhatWouldHelp) {
  run_ranks(1, [](Communicator& comm) {
    CallLog log;
    const BackendRanks ranks{.control = comm, .log = log};
    for (const CollectiveBackend& backend : collective_backends()) {
      if (backend.name == comm.backend() || backend.name == "nccl") continue;
      const Error error = error_of([&] { make_communicator(backend.name, ranks); });
      EXPECT_EQ(error.fault(), Fault::kConfig);
      EXPECT_TRUE(contains(error.what(), concat("backend '", backend.name, "'"))) << error.what();
    }
    const Error unknown = error_of([&] { make_communicator("gloo", ranks); });
    EXPECT_STREQ(unknown.what(), "collectives: there is no backend 'gloo', wanted one of local, mpi, nccl");
    if (find_collective_backend("nccl").compiled_in()) return;
    const Error missing = error_of([&] { make_communicator("nccl", ranks); });
    EXPECT_TRUE(contains(missing.what(), "configure with -DTAKT_CUDA=ON")) << missing.what();
  });
}

TEST(CheckLauncher, AcceptsALauncherThatFits) {
  EXPECT_NO_THROW(check_launcher({}, 1));
  EXPECT_NO_THROW(check_launcher({.open_mpi_ranks = 4}, 4));
  EXPECT_NO_THROW(check_launcher({.pmi_ranks = 4}, 4));
  EXPECT_NO_THROW(check_launcher({.slurm_step = 0, .slurm_task = 3, .slurm_step_tasks = 8}, 8));
}

TEST(CheckLauncher, NamesBothNumbersAndTheFixWhenSrunStartsSingleRanks) {
  const Error error =
      error_of([] { check_launcher({.slurm_step = 0, .slurm_task = 3, .slurm_step_tasks = 8}, 1); });
  EXPECT_EQ(error.exit_code(), 79);
  EXPECT_TRUE(contains(error.what(), "srun started 8 ranks")) << error.what();
  EXPECT_TRUE(contains(error.what(), "MPI sees 1")) << error.what();
  EXPECT_TRUE(contains(error.what(), "srun --mpi=pmix")) << error.what();
}

TEST(CheckLauncher, RefusesAnotherMpisLauncher) {
  EXPECT_EQ(error_of([] { check_launcher({.pmi_ranks = 4}, 1); }).fault(), Fault::kPeer);
  EXPECT_EQ(error_of([] { check_launcher({.open_mpi_ranks = 2}, 1); }).fault(), Fault::kPeer);
}

TEST(CheckLauncher, LetsOneProcessRunInsideASlurmAllocation) {
  EXPECT_NO_THROW(check_launcher({.slurm_task = 0, .slurm_step_tasks = 8}, 1));
  EXPECT_NO_THROW(check_launcher({.slurm_step_tasks = 8}, 1));
}

TEST(CheckLauncher, BelievesMpirunOverTheSlurmStepOfItsDaemons) {
  EXPECT_NO_THROW(
      check_launcher({.open_mpi_ranks = 16, .slurm_step = 0, .slurm_task = 1, .slurm_step_tasks = 2}, 16));
}

}  // namespace
}  // namespace takt
