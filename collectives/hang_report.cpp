// One line a different call or cause, ranks as ranges, so that a report on thousands of ranks stays short.
#include "collectives/hang_report.h"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace takt {
namespace {

constexpr int kMostLines = 12;  // of one kind

std::string_view text_of(std::span<const char> characters) {
  return {characters.data(), ::strnlen(characters.data(), characters.size())};
}

// "data" of "data[5]": groups of one mesh axis make the same calls.
std::string_view family_of(const Signature& call) {
  const std::string_view group = text_of(call.group);
  return group.substr(0, group.find('['));
}

bool is_missing(const RankSnapshot& rank) {
  const bool does_not_run = rank.process_state != '\0' && std::strchr("TtZX", rank.process_state) != nullptr;
  return rank.state == RankState::kRunning && (!rank.waits() || rank.is_silent || does_not_run);
}

bool is_waiting(const RankSnapshot& rank) {
  return rank.state == RankState::kRunning && !is_missing(rank);
}

bool same_wait(const RankSnapshot& a, const RankSnapshot& b) {
  if (a.is_in_call != b.is_in_call) return false;
  if (!a.is_in_call) return a.activity.what == b.activity.what;
  return a.call.operation == b.call.operation && a.call.sequence == b.call.sequence &&
         a.call.value_hash == b.call.value_hash && a.call.num_elements == b.call.num_elements &&
         family_of(a.call) == family_of(b.call);
}

bool same_finished(const RankSnapshot& a, const RankSnapshot& b) {
  return a.has_finished == b.has_finished && (a.has_finished == 0 || same_call(a.finished, b.finished));
}

bool same_cause(const RankSnapshot& a, const RankSnapshot& b) {
  return a.host == b.host && a.is_silent == b.is_silent && a.process_state == b.process_state &&
         same_wait(a, b) && a.activity.what == b.activity.what && same_finished(a, b);
}

bool all_in_one_call(std::span<const RankSnapshot> ranks) {
  return std::all_of(ranks.begin(), ranks.end(),
                     [&](const RankSnapshot& rank) { return same_wait(ranks.front(), rank); });
}

// "all_reduce #18233 'layers.17.mlp.grad'"
void append_call(TextBuffer& text, const Signature& call) {
  text << name_of(call.operation) << " #" << static_cast<std::int64_t>(call.sequence);
  if (call.value[0] != '\0') text << " '" << text_of(call.value) << "'";
}

void append_wait(TextBuffer& text, const RankSnapshot& rank, bool one_group) {
  if (!rank.is_in_call) {
    text << text_of(rank.activity.what);
    return;
  }
  append_call(text, rank.call);
  if (rank.call.num_elements > 0) {
    text << ' ';
    append_bytes(text, rank.call.num_bytes());
  }
  if (rank.call.operation == Operation::kSend) text << " to its rank " << std::int64_t{rank.call.peer};
  if (rank.call.operation == Operation::kReceive) text << " from its rank " << std::int64_t{rank.call.peer};
  text << (one_group ? ", group " : ", groups ")
       << (one_group ? text_of(rank.call.group) : family_of(rank.call)) << (one_group ? "" : "[...]");
}

std::string_view meaning_of(const RankSnapshot& rank) {
  switch (rank.process_state) {
    case 'T':
    case 't':
      return "process stopped by a signal";
    case 'D':
      return "process blocked in the kernel";
    case 'R':
      return "process busy";
    case 'S':
      return "process asleep";
    case 'Z':
    case 'X':
      return "process ended";
    default:
      return rank.is_silent ? "process silent" : "";
  }
}

void append_cause(TextBuffer& text, const RankSnapshot& rank, bool alone) {
  text << " (host " << text_of(rank.host);
  if (alone) text << ", pid " << std::int64_t{rank.pid};
  text << "): ";
  if (rank.has_finished > 0) {
    text << "last finished ";
    append_call(text, rank.finished);
    text << " in group " << text_of(rank.finished.group) << "; ";
  }
  if (const std::string_view meaning = meaning_of(rank); !meaning.empty()) text << meaning << ", ";
  text << "host thread in ";
  if (rank.is_in_call)
    append_call(text, rank.call);
  else
    text << (rank.activity.what[0] != '\0' ? text_of(rank.activity.what) : "an unnamed phase");
  text << " for ";
  append_time(text, rank.idle_s);
}

// Calls line(first, number of them) with the text positioned after the ranges of each set of alike ranks.
template <class IsMember, class Alike, class Line>
void write_sets(TextBuffer& text, std::span<RankSnapshot> ranks, std::string_view title,
                const IsMember& is_member, const Alike& alike, const Line& line) {
  int num_lines = 0;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    if (ranks[i].is_told || !is_member(ranks[i])) continue;
    const bool is_last = ++num_lines == kMostLines;
    text << "  " << title;
    RankRanges ranges(text);
    std::int64_t num_alike = 0;
    bool one_group = true;
    for (std::size_t j = i; j < ranks.size(); ++j) {
      if (ranks[j].is_told || !is_member(ranks[j]) || !(is_last || alike(ranks[i], ranks[j]))) continue;
      ranges.add(ranks[j].rank);
      ranks[j].is_told = true;
      one_group = one_group && ranks[j].call.group == ranks[i].call.group;
      ++num_alike;
    }
    ranges.finish();
    if (is_last && num_alike > 1)
      text << "   likewise, each elsewhere";
    else
      line(ranks[i], num_alike == 1, one_group);
    text << '\n';
  }
}

void write_unknown(TextBuffer& text, std::int64_t num_ranks, std::span<const RankSnapshot> ranks) {
  if (static_cast<std::int64_t>(ranks.size()) >= num_ranks) return;
  text << "  missing   ";
  RankRanges ranges(text);
  std::size_t next = 0;
  for (int rank = 0; rank < num_ranks; ++rank)
    if (next < ranks.size() && ranks[next].rank == rank)
      ++next;
    else
      ranges.add(rank);
  ranges.finish();
  text << ": nothing heard from their hosts\n";
}

// Every rank waits and its process runs.
void write_nobody(TextBuffer& text, std::span<const RankSnapshot> ranks) {
  text << "  missing   nobody: ";
  text << (all_in_one_call(ranks)
               ? "every rank is in the same call, and one is stuck inside it"
               : "every rank is in a call, and one is stuck there or the calls do not fit");
  int num_hosts = 0;
  for (std::size_t r = 0; r < ranks.size() && num_hosts < kMostLines; ++r) {
    const auto before = ranks.first(r);
    if (std::any_of(before.begin(), before.end(),
                    [&](const RankSnapshot& other) { return other.host == ranks[r].host; }))
      continue;
    if (++num_hosts == 2) text << "; or the network is down between hosts " << text_of(ranks[0].host);
    if (num_hosts >= 2) text << ", " << text_of(ranks[r].host);
  }
  text << '\n';
}

void write_saved(TextBuffer& text, const HangFacts& facts) {
  text << "  saved     " << (facts.saved.empty() ? "nothing" : facts.saved) << ", ";
  if (facts.last_checkpoint.empty())
    text << "no checkpoint yet";
  else
    text << "last good checkpoint " << facts.last_checkpoint;
  if (!facts.run_directory.empty() && !facts.last_checkpoint.empty())
    text << "     the same command with --out " << facts.run_directory << " resumes";
  text << '\n';
}

}  // namespace

TextBuffer& TextBuffer::operator<<(std::string_view text) {
  const std::size_t kept = std::min(text.size(), memory_.size() - size_);
  std::copy_n(text.data(), kept, memory_.data() + size_);
  size_ += kept;
  return *this;
}

TextBuffer& TextBuffer::operator<<(std::int64_t number) {
  std::array<char, 24> digits;
  const auto [end, code] = std::to_chars(digits.data(), digits.data() + digits.size(), number);
  return *this << std::string_view(digits.data(), static_cast<std::size_t>(end - digits.data()));
}

void append_bytes(TextBuffer& text, std::uint64_t num_bytes) {
  struct Unit {
    std::uint64_t num_bytes;
    std::string_view name;
  };
  static constexpr Unit kUnits[] = {{1'000'000'000, " GB"}, {1'000'000, " MB"}, {1'000, " kB"}};
  for (const Unit& unit : kUnits) {
    // A tenth of the unit, rounded; from 0.9995 of it on, as that reads 1.0.
    const std::uint64_t tenth = unit.num_bytes / 10, tenths = (num_bytes + tenth / 2) / tenth;
    if (unit.num_bytes > 1000 ? num_bytes < unit.num_bytes / 10000 * 9995 : num_bytes < unit.num_bytes)
      continue;
    if (tenths >= 100 && unit.num_bytes > 1000)
      text << static_cast<std::int64_t>((num_bytes + unit.num_bytes / 2) / unit.num_bytes);
    else
      text << static_cast<std::int64_t>(tenths / 10) << '.' << static_cast<std::int64_t>(tenths % 10);
    text << unit.name;
    return;
  }
  text << static_cast<std::int64_t>(num_bytes) << " B";
}

void append_time(TextBuffer& text, double time_s) {
  const auto tenths = static_cast<std::int64_t>(time_s * 10 + 0.5);
  text << tenths / 10;
  if (tenths < 100 && tenths % 10 != 0) text << '.' << tenths % 10;
  text << " s";
}

void RankRanges::add(int rank) {
  if (first_ < 0 || rank != last_ + 1) {
    write_range(false);
    first_ = rank;
  }
  last_ = rank;
}

void RankRanges::write_range(bool is_end) {
  if (first_ < 0) return;
  if (is_first_range_)
    text_ << (is_end && first_ == last_ ? "rank " : "ranks ");
  else
    text_ << ',';
  text_ << first_;
  if (last_ > first_) text_ << '-' << last_;
  is_first_range_ = false;
}

void RankRanges::finish() {
  write_range(true);
}

void write_hang_report(TextBuffer& text, const HangFacts& facts, std::span<RankSnapshot> ranks) {
  std::int64_t step = 0;
  bool any_missing = static_cast<std::int64_t>(ranks.size()) < facts.num_ranks;
  for (RankSnapshot& rank : ranks) {
    rank.is_told = false;
    step = std::max(step, rank.step);
    any_missing = any_missing || is_missing(rank);
  }
  text << "error: no progress for ";
  append_time(text, facts.timeout_s);
  if (step > 0)
    text << " at step " << step;
  else
    text << " before step 1";
  text << " (exit " << std::int64_t{facts.exit_code} << ")\n";
  write_sets(text, ranks, "waiting   ", is_waiting, same_wait,
             [&](const RankSnapshot& first, bool, bool one_group) {
               text << "   ";
               append_wait(text, first, one_group);
             });
  write_sets(text, ranks, "missing   ", is_missing, same_cause,
             [&](const RankSnapshot& first, bool alone, bool) { append_cause(text, first, alone); });
  write_unknown(text, facts.num_ranks, ranks);
  if (!any_missing) write_nobody(text, ranks);
  write_saved(text, facts);
}

}  // namespace takt
