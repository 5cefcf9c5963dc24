// ByteProfile: how many bytes are in use at each time; a tree of maxima, so that changes and questions cost a logarithm.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace takt {

class ByteProfile {
 public:
  // Times are 0 to num_times - 1, with no bytes in use.
  explicit ByteProfile(int num_times);

  // At times first to last, both included; nothing if last < first. `num_bytes` may be negative.
  void add(int first, int last, std::int64_t num_bytes);
  // The most that is in use at one of these times; 0 if last < first.
  std::int64_t most(int first, int last) const;

 private:
  struct Part {
    std::int64_t added = 0;  // to all times of this part
    std::int64_t most = 0;   // of its times, `added` included
  };
  std::int64_t most_in(std::size_t part, int part_first, int part_last, int first, int last) const;
  void add_in(std::size_t part, int part_first, int part_last, int first, int last, std::int64_t num_bytes);

  int num_times_;
  std::vector<Part> parts_;  // halves of part p are 2 p and 2 p + 1; the whole is part 1
};

}  // namespace takt
