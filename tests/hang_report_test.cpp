// The text of hang reports: ranks as ranges, and who waits for what.
#include "collectives/hang_report.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/units.h"
#include "tests/rank_samples.h"

namespace takt {
namespace {

std::string ranges_of(const std::vector<int>& ranks) {
  std::array<char, 4096> memory;
  TextBuffer text(memory);
  RankRanges ranges(text);
  for (const int rank : ranks) ranges.add(rank);
  ranges.finish();
  return std::string(text.view());
}

// What ranges_of wrote, read back.
std::vector<int> ranks_of(const std::string& text) {
  std::vector<int> ranks;
  std::istringstream parts(text.substr(text.find(' ') + 1));
  for (std::string part; std::getline(parts, part, ',');) {
    const std::size_t dash = part.find('-');
    const int first = std::stoi(part), last = dash == part.npos ? first : std::stoi(part.substr(dash + 1));
    for (int rank = first; rank <= last; ++rank) ranks.push_back(rank);
  }
  return ranks;
}

TEST(RankRanges, NameOneRankOrMany) {
  EXPECT_EQ(ranges_of({12}), "rank 12");
  EXPECT_EQ(ranges_of({0}), "rank 0");
  EXPECT_EQ(ranges_of({3, 4}), "ranks 3-4");
  EXPECT_EQ(ranges_of({0, 1, 2, 3, 4, 5, 6, 7, 12}), "ranks 0-7,12");
  EXPECT_EQ(ranges_of({1, 3, 5}), "ranks 1,3,5");
}

TEST(RankRanges, LoseNoRank) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<int> ranks;
    for (int rank = 0; rank < 60; ++rank)
      if (random() % 3 != 0) ranks.push_back(rank);
    EXPECT_EQ(ranks_of(ranges_of(ranks)), ranks) << ranges_of(ranks);
  }
}

TEST(HangReport, WritesBytesAsTheConsoleDoes) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 2000; ++round) {
    const std::uint64_t num_bytes = random() >> (random() % 44 + 20);
    std::array<char, 64> memory;
    TextBuffer text(memory);
    append_bytes(text, num_bytes);
    // Exact halves may be rounded to either side.
    const std::string ours(text.view()), theirs = format_bytes(num_bytes);
    if (num_bytes < 1000 || num_bytes % 50 != 0) {
      EXPECT_EQ(ours, theirs) << num_bytes;
    }
  }
}

TEST(HangReport, CutsWhatDoesNotFit) {
  std::array<char, 8> memory;
  TextBuffer text(memory);
  text << "rank " << std::int64_t{123456} << "never";
  EXPECT_EQ(text.view(), "rank 123");
}

RankSnapshot a_rank(int rank, std::string_view host) {
  RankSnapshot snapshot;
  snapshot.rank = rank;
  snapshot.pid = 88000 + rank;
  snapshot.state = RankState::kRunning;
  snapshot.step = 731;
  snapshot.idle_s = 118.2;
  put(snapshot.host, host);
  return snapshot;
}

std::string report_on(std::vector<RankSnapshot> ranks, HangFacts facts) {
  std::array<char, 16384> memory;
  TextBuffer text(memory);
  write_hang_report(text, facts, ranks);
  return std::string(text.view());
}

TEST(HangReport, SaysWhoWaitsForWhatAndWhoIsMissing) {
  std::vector<RankSnapshot> ranks;
  for (int r = 0; r < 64; ++r) {
    ranks.push_back(a_rank(r, r < 32 ? "n4" : "n5"));
    ranks.back().is_in_call = r != 41;
    ranks.back().call = a_call(18233, "layers.17.mlp.grad", 23'500'000, "data[5]");
  }
  ranks[41].has_finished = 18232;
  ranks[41].finished = a_call(18231, "layers.18.mlp.grad", 23'500'000, "data[5]");
  put(ranks[41].activity.what, "reading data");
  ranks[41].process_state = 'D';
  const std::string text = report_on(ranks, {.timeout_s = 120,
                                             .num_ranks = 64,
                                             .run_directory = "runs/a",
                                             .saved = "runs/a/incident-1/report.txt",
                                             .last_checkpoint = "step-000500"});
  EXPECT_EQ(
      text,
      "error: no progress for 120 s at step 731 (exit 79)\n"
      "  waiting   ranks 0-40,42-63   reduce_scatter #18233 'layers.17.mlp.grad' 94 MB, group data[5]\n"
      "  missing   rank 41 (host n5, pid 88041): last finished reduce_scatter #18231 'layers.18.mlp.grad' in "
      "group data[5]; process blocked in the kernel, host thread in reading data for 118 s\n"
      "  saved     runs/a/incident-1/report.txt, last good checkpoint step-000500     the same command with "
      "--out runs/a resumes\n");
}

TEST(HangReport, NamesTheStoppedRankAmongRanksOfOneCall) {
  std::vector<RankSnapshot> ranks = {a_rank(0, "n1"), a_rank(1, "n1")};
  for (RankSnapshot& rank : ranks) {
    rank.is_in_call = true;
    rank.call = a_call(7, "loss", 1, "world");
  }
  ranks[1].process_state = 'T';
  const std::string text = report_on(ranks, {.timeout_s = 3, .num_ranks = 2});
  EXPECT_NE(text.find("  waiting   rank 0   reduce_scatter #7 'loss' 4 B, group world\n"), text.npos) << text;
  EXPECT_NE(text.find("  missing   rank 1 (host n1, pid 88001): process stopped by a signal, host thread in "
                      "reduce_scatter #7 'loss' for 118 s\n"),
            text.npos)
      << text;
  EXPECT_NE(text.find("  saved     nothing, no checkpoint yet\n"), text.npos) << text;
}

TEST(HangReport, SaysWhenNobodyIsMissing) {
  std::vector<RankSnapshot> ranks = {a_rank(0, "n1"), a_rank(1, "n1")};
  for (RankSnapshot& rank : ranks) rank.is_in_call = true;
  ranks[0].call = a_call(7, "loss", 1, "data[0]");
  ranks[1].call = a_call(3, "loss", 1, "tensor[0]");
  EXPECT_NE(report_on(ranks, {.num_ranks = 2}).find("one is stuck there or the calls do not fit\n"),
            std::string::npos);
  ranks[1].call = ranks[0].call;
  EXPECT_NE(
      report_on(ranks, {.num_ranks = 2}).find("every rank is in the same call, and one is stuck inside it\n"),
      std::string::npos);
  put(ranks[1].host, "n2");
  EXPECT_NE(report_on(ranks, {.num_ranks = 2}).find("; or the network is down between hosts n1, n2\n"),
            std::string::npos);
}

TEST(HangReport, NamesRanksOfHostsThatWereNeverHeard) {
  std::vector<RankSnapshot> ranks = {a_rank(0, "n1"), a_rank(5, "n3")};
  for (RankSnapshot& rank : ranks) rank.is_in_call = true;
  const std::string text = report_on(ranks, {.num_ranks = 8});
  EXPECT_NE(text.find("  missing   ranks 1-4,6-7: nothing heard from their hosts\n"), text.npos) << text;
}

TEST(HangReport, StaysShortOnThousandsOfRanksThatDiffer) {
  std::vector<RankSnapshot> ranks;
  for (int r = 0; r < 5000; ++r) {
    ranks.push_back(a_rank(r, concat("n", r / 8)));
    ranks.back().is_in_call = r % 2 == 0;
    ranks.back().call = a_call(static_cast<std::uint64_t>(r), "x", 1, "data[0]");
  }
  const std::string text = report_on(ranks, {.num_ranks = 5000});
  EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 30);
}

}  // namespace
}  // namespace takt
