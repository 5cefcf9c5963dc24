// The text of a hang report, made from snapshots of the ranks without allocating: it is written by a process
// of which nothing is known but that it no longer moves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "collectives/rank_record.h"

namespace takt {

// Text in memory of a fixed size; what does not fit is cut.
class TextBuffer {
 public:
  explicit TextBuffer(std::span<char> memory) : memory_(memory) {}

  TextBuffer& operator<<(std::string_view text);
  TextBuffer& operator<<(std::int64_t number);
  TextBuffer& operator<<(char c) { return *this << std::string_view(&c, 1); }
  std::string_view view() const { return {memory_.data(), size_}; }

 private:
  std::span<char> memory_;
  std::size_t size_ = 0;
};

void append_bytes(TextBuffer& text, std::uint64_t num_bytes);  // "94 MB", as format_bytes
void append_time(TextBuffer& text, double time_s);             // "3 s", "0.2 s"

// "rank 12" or "ranks 0-7,12". `add` takes ranks in rising order.
class RankRanges {
 public:
  explicit RankRanges(TextBuffer& text) : text_(text) {}
  void add(int rank);
  void finish();

 private:
  void write_range(bool is_end);

  TextBuffer& text_;
  std::int64_t first_ = -1, last_ = -1;  // of the range being collected
  bool is_first_range_ = true;
};

struct HangFacts {
  double timeout_s = 0;
  int exit_code = 79;
  std::int64_t num_ranks = 1;             // of the run
  std::string_view run_directory = {};    // empty: none yet
  std::string_view saved = {};            // where the report is kept; empty: nowhere
  std::string_view last_checkpoint = {};  // its name; empty: none yet
};

// ranks: of the run, in rising order of rank, those of which nothing is known left out; their is_told is
// used as scratch. Missing are ranks that wait for nobody, or whose process does not run, or of which nothing is known.
void write_hang_report(TextBuffer& text, const HangFacts& facts, std::span<RankSnapshot> ranks);

}  // namespace takt
