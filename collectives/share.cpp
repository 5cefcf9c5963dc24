// Texts travel as one i32 a character: they are short, and a collective knows no bytes.
#include "collectives/share.h"

#include <xxhash.h>

#include <vector>

#include "core/base/error.h"

namespace takt {

std::string share_text(Communicator& comm, const std::string& text, int root) {
  auto num_characters = static_cast<std::int32_t>(text.size());
  comm.broadcast(&num_characters, 1, DType::kI32, root, {"length of a shared text"});
  std::vector<std::int32_t> characters(static_cast<std::size_t>(num_characters));
  if (comm.rank() == root) characters.assign(text.begin(), text.end());
  comm.broadcast(characters.data(), characters.size(), DType::kI32, root, {"a shared text"});
  std::string shared;
  for (const std::int32_t c : characters) shared.push_back(static_cast<char>(c));
  return shared;
}

void require_same(Communicator& comm, std::string_view text, std::string_view what) {
  const std::uint64_t hash = XXH3_64bits(text.data(), text.size());
  const std::int32_t mine[2] = {static_cast<std::int32_t>(hash), static_cast<std::int32_t>(hash >> 32)};
  std::vector<std::int32_t> all(2 * static_cast<std::size_t>(comm.size()));
  comm.all_gather(mine, all.data(), 2, DType::kI32, {what});
  for (std::size_t r = 1; r < static_cast<std::size_t>(comm.size()); ++r) {
    if (all[2 * r] == all[0] && all[2 * r + 1] == all[1]) continue;
    Error error(Fault::kConfig, concat(what, ": rank ", r, " has another one than rank 0",
                                       "\n  all ranks must see the same files, flags and TAKT_ variables"));
    error.set_agreed();
    throw error;
  }
}

}  // namespace takt
