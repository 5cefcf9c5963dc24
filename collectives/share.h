// share: texts from rank to rank, and making sure that ranks know the same thing.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "collectives/communicator.h"

namespace takt {

// The root's text, on every rank. Every rank of `comm` calls it; the others' argument is ignored.
std::string share_text(Communicator& comm, const std::string& text, int root = 0);

// Everybody's text in rank order, on the root; nothing on the others. Every rank of `comm` calls it.
std::vector<std::string> gather_texts(Communicator& comm, const std::string& text, int root = 0);

// Throws kConfig, agreed, on every rank unless all ranks of `comm` hold the same text. `what` names it in the message.
void require_same(Communicator& comm, std::string_view text, std::string_view what);

}  // namespace takt
