// share: ranks make sure that they know the same thing.
#pragma once

#include <string>
#include <string_view>

#include "collectives/communicator.h"

namespace takt {

// The root's text, on every rank. Every rank of `comm` calls it; the others' argument is ignored.
std::string share_text(Communicator& comm, const std::string& text, int root = 0);

// Throws kConfig, agreed, on every rank unless all ranks of `comm` hold the same text. `what` names it in the
// message.
void require_same(Communicator& comm, std::string_view text, std::string_view what);

}  // namespace takt
