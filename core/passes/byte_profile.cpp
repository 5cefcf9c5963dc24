// byte_profile: what was added to a whole part is kept there and never handed down.
#include "core/passes/byte_profile.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace takt {

ByteProfile::ByteProfile(int num_times)
    : num_times_(std::max(num_times, 1)),
      parts_(2 * std::bit_ceil(static_cast<std::size_t>(std::max(num_times, 1)))) {}

void ByteProfile::add(int first, int last, std::int64_t num_bytes) {
  if (first <= last) add_in(1, 0, num_times_ - 1, first, last, num_bytes);
}

std::int64_t ByteProfile::most(int first, int last) const {
  return first <= last ? most_in(1, 0, num_times_ - 1, first, last) : 0;
}

void ByteProfile::add_in(std::size_t part, int part_first, int part_last, int first, int last,
                         std::int64_t num_bytes) {
  Part& here = parts_[part];
  if (first <= part_first && part_last <= last) {
    here.added += num_bytes;
    here.most += num_bytes;
    return;
  }
  const int middle = part_first + (part_last - part_first) / 2;
  if (first <= middle) add_in(2 * part, part_first, middle, first, last, num_bytes);
  if (last > middle) add_in(2 * part + 1, middle + 1, part_last, first, last, num_bytes);
  here.most = here.added + std::max(parts_[2 * part].most, parts_[2 * part + 1].most);
}

std::int64_t ByteProfile::most_in(std::size_t part, int part_first, int part_last, int first,
                                  int last) const {
  const Part& here = parts_[part];
  if (first <= part_first && part_last <= last) return here.most;
  const int middle = part_first + (part_last - part_first) / 2;
  std::int64_t most = std::numeric_limits<std::int64_t>::min();
  if (first <= middle) most = most_in(2 * part, part_first, middle, first, last);
  if (last > middle) most = std::max(most, most_in(2 * part + 1, middle + 1, part_last, first, last));
  return here.added + most;
}

}  // namespace takt
