// The contract of Communicator, as checks that every rank of a group runs together. Every backend passes all of them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "collectives/agree.h"
#include "collectives/communicator.h"
#include "collectives/share.h"
#include "core/base/error.h"

namespace takt::contract {

// Numbers of elements, the last one left out where the buffers of all ranks would take gigabytes.
inline std::vector<std::size_t> counts(const Communicator& comm) {
  std::vector<std::size_t> out = {0, 1, 3, 257};
  if (comm.size() <= 8) out.push_back(9001);
  return out;
}

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>)
    return DType::kF32;
  else if constexpr (std::is_same_v<T, double>)
    return DType::kF64;
  else
    return DType::kI32;
}

// Element i of what `rank` brings: numbers whose sum depends on the order of addition.
template <class T>
T element(int rank, std::size_t i) {
  std::uint64_t bits = (static_cast<std::uint64_t>(rank) << 40) + i + 1;
  bits = (bits ^ (bits >> 31)) * 0x9e3779b97f4a7c15u;
  bits = (bits ^ (bits >> 29)) * 0xbf58476d1ce4e5b9u;
  const auto number = static_cast<std::int32_t>(bits >> 40) - (1 << 23);
  if constexpr (std::is_same_v<T, std::int32_t>)
    return number;
  else
    return static_cast<T>(number) / static_cast<T>(1 + (bits & 0xfffu));
}

template <class T>
std::vector<T> elements(int rank, std::size_t num_elements) {
  std::vector<T> out(num_elements);
  for (std::size_t i = 0; i < num_elements; ++i) out[i] = element<T>(rank, i);
  return out;
}

// Element i of the reduction over ranks [begin, end), as reduce.h defines it.
template <class T>
T reduced_over(int begin, int end, std::size_t i, ReduceOp op) {
  if (end - begin == 1) return element<T>(begin, i);
  int num_left = 1;
  while (2 * num_left < end - begin) num_left *= 2;
  const T left = reduced_over<T>(begin, begin + num_left, i, op);
  const T right = reduced_over<T>(begin + num_left, end, i, op);
  return op == ReduceOp::kSum ? static_cast<T>(left + right) : std::max(left, right);
}

template <class T>
T reduced(int num_ranks, std::size_t i, ReduceOp op) {
  return reduced_over<T>(0, num_ranks, i, op);
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// The Error that `call` throws, or one that says that it threw none.
template <class Call>
Error error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  return Error(Fault::kBug, "no error was thrown");
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

template <class T>
void reduces_in_tree_order(Communicator& comm, ReduceOp op) {
  const auto num_ranks = static_cast<std::size_t>(comm.size());
  for (const std::size_t num : counts(comm)) {
    std::vector<T> buffer = elements<T>(comm.rank(), num);
    comm.all_reduce(buffer.data(), num, dtype_of<T>(), op, {.value = "gradient"});
    std::vector<T> expected(num);
    for (std::size_t i = 0; i < num; ++i) expected[i] = reduced<T>(comm.size(), i, op);
    EXPECT_TRUE(same_bits(buffer, expected)) << "all_reduce of " << num;

    const std::vector<T> send = elements<T>(comm.rank(), num * num_ranks);
    std::vector<T> receive(num);
    comm.reduce_scatter(send.data(), receive.data(), num, dtype_of<T>(), op, {.value = "gradient"});
    const std::size_t begin = num * static_cast<std::size_t>(comm.rank());
    for (std::size_t i = 0; i < num; ++i) expected[i] = reduced<T>(comm.size(), begin + i, op);
    EXPECT_TRUE(same_bits(receive, expected)) << "reduce_scatter of " << num;
  }
}

inline void reductions_equal_a_plain_computation(Communicator& comm) {
  for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax}) {
    reduces_in_tree_order<float>(comm, op);
    reduces_in_tree_order<double>(comm, op);
    reduces_in_tree_order<std::int32_t>(comm, op);
  }
}

inline void reductions_are_the_same_bits_on_every_rank_and_run(Communicator& comm) {
  constexpr std::size_t kNum = 3001;
  std::vector<float> first = elements<float>(comm.rank(), kNum);
  std::vector<float> second = first;
  comm.all_reduce(first.data(), kNum, DType::kF32, ReduceOp::kSum, {.value = "first"});
  comm.all_reduce(second.data(), kNum, DType::kF32, ReduceOp::kSum, {.value = "second"});
  EXPECT_TRUE(same_bits(first, second));
  std::vector<float> of_all(kNum * static_cast<std::size_t>(comm.size()));
  comm.all_gather(first.data(), of_all.data(), kNum, DType::kF32, {.value = "results"});
  for (std::size_t begin = 0; begin < of_all.size(); begin += kNum)
    EXPECT_EQ(std::memcmp(&of_all[begin], first.data(), kNum * sizeof(float)), 0);
}

inline void gathers_and_exchanges_move_every_part(Communicator& comm) {
  const auto num_ranks = static_cast<std::size_t>(comm.size());
  const auto my_rank = static_cast<std::size_t>(comm.rank());
  for (const std::size_t num : counts(comm)) {
    const std::vector<double> send = elements<double>(comm.rank(), num * num_ranks);
    std::vector<double> gathered(num * num_ranks);
    std::vector<double> exchanged(num * num_ranks);
    comm.all_gather(send.data(), gathered.data(), num, DType::kF64, {.value = "shards"});
    comm.all_to_all(send.data(), exchanged.data(), num, DType::kF64, {.value = "tokens"});
    std::vector<double> all_gathered, all_exchanged;
    for (int rank = 0; rank < comm.size(); ++rank) {
      for (std::size_t i = 0; i < num; ++i) all_gathered.push_back(element<double>(rank, i));
      for (std::size_t i = 0; i < num; ++i) all_exchanged.push_back(element<double>(rank, my_rank * num + i));
    }
    EXPECT_TRUE(same_bits(gathered, all_gathered)) << "all_gather of " << num;
    EXPECT_TRUE(same_bits(exchanged, all_exchanged)) << "all_to_all of " << num;
  }
}

inline void broadcast_gives_everybody_the_roots_buffer(Communicator& comm) {
  for (const int root : {0, comm.size() - 1}) {
    for (const std::size_t num : counts(comm)) {
      std::vector<std::uint16_t> buffer(num, static_cast<std::uint16_t>(comm.rank() + 1));
      comm.broadcast(buffer.data(), num, DType::kBF16, root, {.value = "weights"});
      EXPECT_TRUE(same_bits(buffer, std::vector<std::uint16_t>(num, static_cast<std::uint16_t>(root + 1))));
    }
  }
  comm.barrier({.value = "end"});
}

inline void messages_of_a_pair_arrive_in_order(Communicator& comm) {
  for (int rank = 0; rank + 1 < comm.size(); ++rank) {
    for (const std::size_t num : counts(comm)) {
      std::vector<float> buffer = elements<float>(comm.rank(), num);
      if (comm.rank() == rank) comm.send(buffer.data(), num, DType::kF32, rank + 1, {.value = "activation"});
      if (comm.rank() != rank + 1) continue;
      comm.receive(buffer.data(), num, DType::kF32, rank, {.value = "activation"});
      EXPECT_TRUE(same_bits(buffer, elements<float>(rank, num)));
    }
  }
}

inline void messages_that_do_not_fit_fail_on_both_sides(Communicator& comm) {
  if (comm.size() < 2 || comm.rank() > 1) return;
  std::vector<float> buffer(8);
  const Error error = error_of([&] {
    if (comm.rank() == 0)
      comm.send(buffer.data(), 8, DType::kF32, 1, {.value = "activation"});
    else
      comm.receive(buffer.data(), 7, DType::kF32, 0, {.value = "activation"});
  });
  EXPECT_EQ(error.fault(), Fault::kPeer);
  EXPECT_TRUE(contains(error.what(), "send f32 x 8 'activation' #0")) << error.what();
  EXPECT_TRUE(contains(error.what(), "receive f32 x 7 'activation' #0")) << error.what();
  const Error both_send =
      error_of([&] { comm.send(buffer.data(), 8, DType::kF32, 1 - comm.rank(), {.value = "activation"}); });
  EXPECT_EQ(both_send.fault(), Fault::kPeer);
}

// Rank 0 makes `first`, the others make `second`: all fail, with both signatures.
template <class First, class Second>
void expect_mismatch(Communicator& comm, const First& first, const Second& second,
                     const std::string& first_text, const std::string& second_text) {
  const Error error = error_of([&] { comm.rank() == 0 ? first() : second(); });
  EXPECT_EQ(error.fault(), Fault::kPeer);
  EXPECT_TRUE(contains(error.what(), first_text)) << error.what();
  EXPECT_TRUE(contains(error.what(), second_text)) << error.what();
}

inline void mismatched_calls_fail_on_every_rank_with_both_signatures(Communicator& comm) {
  if (comm.size() < 2) return;
  std::vector<float> buffer(64 * static_cast<std::size_t>(comm.size()), 1.0f);
  std::vector<float> other(buffer.size());
  const auto reduce = [&](std::size_t num, DType dtype, ReduceOp op, const char* value) {
    return [&comm, &buffer, num, dtype, op, value] {
      comm.all_reduce(buffer.data(), num, dtype, op, {.value = value});
    };
  };
  const auto grad = reduce(32, DType::kF32, ReduceOp::kSum, "grad");
  expect_mismatch(comm, grad, reduce(32, DType::kF32, ReduceOp::kMax, "grad"),
                  "all_reduce sum f32 x 32 'grad' #", "all_reduce max f32 x 32 'grad' #");
  expect_mismatch(comm, grad, reduce(32, DType::kI32, ReduceOp::kSum, "grad"), "sum f32 x 32",
                  "sum i32 x 32");
  expect_mismatch(comm, grad, reduce(31, DType::kF32, ReduceOp::kSum, "grad"), "f32 x 32", "f32 x 31");
  expect_mismatch(comm, grad, reduce(32, DType::kF32, ReduceOp::kSum, "bias"), "'grad'", "'bias'");
  expect_mismatch(
      comm, grad, [&] { comm.all_gather(buffer.data(), other.data(), 32, DType::kF32, {.value = "grad"}); },
      "all_reduce sum f32 x 32 'grad' #", "all_gather f32 x 32 'grad' #");
  expect_mismatch(
      comm, grad, [&] { (void)comm.split(0, "new"); }, "all_reduce", "split");
  EXPECT_EQ(buffer[0], 1.0f) << "no buffer is written by a call that fails";
  comm.barrier({.value = "the group can still be used"});
}

inline void reducing_bf16_is_an_error_that_names_it(Communicator& comm) {
  if (comm.size() < 2) return;
  std::vector<std::uint16_t> buffer(4);
  const Error error =
      error_of([&] { comm.all_reduce(buffer.data(), 4, DType::kBF16, ReduceOp::kSum, {.value = "grad"}); });
  EXPECT_EQ(error.fault(), Fault::kConfig);
  EXPECT_TRUE(contains(error.what(), "bf16")) << error.what();
}

inline void split_makes_groups_that_work_alone(Communicator& comm) {
  const int color = comm.rank() % 2;
  const std::unique_ptr<Communicator> half = comm.split(color, color == 0 ? "even[0]" : "odd[1]");
  EXPECT_EQ(half->rank(), comm.rank() / 2);
  EXPECT_EQ(half->size(), (comm.size() + 1 - color) / 2);
  // The groups make different numbers of calls.
  for (int i = 0; i <= color; ++i) {
    std::int32_t total = comm.rank();
    half->all_reduce(&total, 1, DType::kI32, ReduceOp::kSum, {.value = "ranks"});
    std::int32_t expected = 0;
    for (int rank = color; rank < comm.size(); rank += 2) expected += rank;
    EXPECT_EQ(total, expected);
  }
  const std::unique_ptr<Communicator> alone = half->split(half->rank(), "alone");
  EXPECT_EQ(alone->size(), 1);
  const float sent = 3.0f;
  float received = 0.0f;
  alone->all_gather(&sent, &received, 1, DType::kF32, {.value = "one"});
  EXPECT_EQ(received, sent);
  reductions_equal_a_plain_computation(*half);
}

// Of consecutive blocks of 2^k ranks, for every k that divides the group.
inline void a_reduction_is_one_over_blocks_of_reductions_inside_them(Communicator& comm) {
  constexpr std::size_t kNum = 501;
  for (int block = 1; comm.size() % block == 0 && block <= comm.size(); block *= 2) {
    const auto inside = comm.split(comm.rank() / block, "inside");
    const auto across = comm.split(comm.rank() % block, "across");
    std::vector<float> twice = elements<float>(comm.rank(), kNum);
    inside->all_reduce(twice.data(), kNum, DType::kF32, ReduceOp::kSum, {.value = "inside"});
    across->all_reduce(twice.data(), kNum, DType::kF32, ReduceOp::kSum, {.value = "across"});
    std::vector<float> once = elements<float>(comm.rank(), kNum);
    comm.all_reduce(once.data(), kNum, DType::kF32, ReduceOp::kSum, {.value = "all"});
    EXPECT_TRUE(same_bits(once, twice)) << "blocks of " << block;
  }
}

inline void texts_of_any_length_arrive(Communicator& comm) {
  const auto text_of = [](int rank) {
    return std::string(static_cast<std::size_t>(rank * rank % 700), 'a') + '\0';
  };
  for (const int root : {0, comm.size() - 1}) {
    EXPECT_EQ(share_text(comm, text_of(comm.rank()), root), text_of(root));
    const std::vector<std::string> texts = gather_texts(comm, text_of(comm.rank()), root);
    ASSERT_EQ(texts.size(), comm.rank() == root ? static_cast<std::size_t>(comm.size()) : 0u);
    for (std::size_t rank = 0; rank < texts.size(); ++rank)
      EXPECT_EQ(texts[rank], text_of(static_cast<int>(rank)));
  }
  EXPECT_EQ(share_text(comm, ""), "");
  require_same(comm, "all alike", "the word");
  if (comm.size() == 1) return;
  const Error error = error_of([&] { require_same(comm, text_of(comm.rank()), "the word"); });
  EXPECT_TRUE(error.agreed());
  EXPECT_TRUE(contains(error.what(), "the word: rank 1 has another one than rank 0")) << error.what();
}

// As a group over several mesh axes is made: no pattern in the colors, and ranks of one color apart.
inline void split_takes_any_colors(Communicator& comm) {
  const auto color_of = [](int rank) { return (rank * 7919 + 13) % 5 * 1'000'003; };
  const std::unique_ptr<Communicator> group = comm.split(color_of(comm.rank()), "joint");
  std::vector<std::int32_t> members;
  for (int rank = 0; rank < comm.size(); ++rank)
    if (color_of(rank) == color_of(comm.rank())) members.push_back(rank);
  ASSERT_EQ(group->size(), static_cast<int>(members.size()));
  EXPECT_EQ(members[static_cast<std::size_t>(group->rank())], comm.rank());
  const std::int32_t mine = comm.rank();
  std::vector<std::int32_t> gathered(members.size());
  group->all_gather(&mine, gathered.data(), 1, DType::kI32, {.value = "ranks"});
  EXPECT_EQ(gathered, members);
  // The same ranks once more along another cut, as two axes of one mesh have it.
  const std::unique_ptr<Communicator> other = comm.split(comm.rank() / 3, "other");
  std::int32_t total = mine;
  other->all_reduce(&total, 1, DType::kI32, ReduceOp::kSum, {.value = "ranks"});
  std::int32_t expected = 0;
  for (int rank = 0; rank < comm.size(); ++rank)
    if (rank / 3 == comm.rank() / 3) expected += rank;
  EXPECT_EQ(total, expected);
  group->barrier({.value = "both live"});
}

inline void agree_fails_on_every_rank_if_one_fails(Communicator& comm) {
  EXPECT_EQ(agree(comm, [] { return 7; }), 7);
  const int last = comm.size() - 1;
  const Error error = error_of([&] {
    agree(comm, [&] {
      if (comm.rank() == last) fail(Fault::kData, "data/x.bin: not found\n  run takt data");
    });
  });
  EXPECT_TRUE(error.agreed());
  EXPECT_EQ(error.fault(), Fault::kData);
  EXPECT_TRUE(contains(error.what(), "data/x.bin: not found\n  run takt data")) << error.what();
  if (comm.size() > 1) {
    EXPECT_TRUE(std::string(error.what()).starts_with(concat("rank ", last, " ("))) << error.what();
  }

  const Error alike = error_of([&] { agree(comm, [] { fail(Fault::kConfig, "mesh: does not fit"); }); });
  EXPECT_STREQ(alike.what(), "mesh: does not fit");
  const Error bug = error_of([&] { agree(comm, [] { throw std::runtime_error("odd"); }); });
  EXPECT_EQ(bug.fault(), Fault::kBug);
}

inline void agree_reports_the_cause_when_others_are_in_a_call(Communicator& comm) {
  if (comm.size() < 2) return;
  const Error error = error_of([&] {
    agree(comm, [&] {
      if (comm.rank() == 1) fail(Fault::kIo, "disk is full");
      comm.barrier({.value = "inside the phase"});
    });
  });
  EXPECT_EQ(error.fault(), Fault::kIo);
  EXPECT_TRUE(contains(error.what(), "rank 1 (")) << error.what();
  EXPECT_TRUE(contains(error.what(), "disk is full")) << error.what();
}

struct Check {
  const char* name;
  void (*run)(Communicator& comm);
};

inline constexpr Check kChecks[] = {
    {"AReductionIsOneOverBlocksOfReductions", a_reduction_is_one_over_blocks_of_reductions_inside_them},
    {"AgreeFailsOnEveryRankIfOneFails", agree_fails_on_every_rank_if_one_fails},
    {"AgreeReportsTheCauseWhenOthersAreInACall", agree_reports_the_cause_when_others_are_in_a_call},
    {"BroadcastGivesEverybodyTheRootsBuffer", broadcast_gives_everybody_the_roots_buffer},
    {"GathersAndExchangesMoveEveryPart", gathers_and_exchanges_move_every_part},
    {"MessagesOfAPairArriveInOrder", messages_of_a_pair_arrive_in_order},
    {"MessagesThatDoNotFitFailOnBothSides", messages_that_do_not_fit_fail_on_both_sides},
    {"MismatchedCallsFailOnEveryRank", mismatched_calls_fail_on_every_rank_with_both_signatures},
    {"ReducingBf16IsAnErrorThatNamesIt", reducing_bf16_is_an_error_that_names_it},
    {"ReductionsAreTheSameBitsOnEveryRankAndRun", reductions_are_the_same_bits_on_every_rank_and_run},
    {"ReductionsEqualAPlainComputation", reductions_equal_a_plain_computation},
    {"SplitMakesGroupsThatWorkAlone", split_makes_groups_that_work_alone},
    {"SplitTakesAnyColors", split_takes_any_colors},
    {"TextsOfAnyLengthArrive", texts_of_any_length_arrive},
};

}  // namespace takt::contract
