// agree: ranks run a phase of the set-up and go on only if it succeeded on all of them.
#pragma once

#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

#include "collectives/communicator.h"

namespace takt {

// Runs a phase of the set-up on every rank of `comm`, then lets all ranks go on only if it succeeded on all.
// If it threw anywhere, every rank throws the Error of the lowest failing rank (a kPeer only if all are),
// marked as agreed. It begins with "rank 3 (node07): " unless all ranks failed with the same message. Every
// rank of `comm` calls it. The phase may make calls on `comm` itself, but not on other groups.
void agree_on(Communicator& comm, const std::function<void()>& phase);

// The same for a phase that returns a value.
template <class Phase>
auto agree(Communicator& comm, Phase&& phase) -> std::invoke_result_t<Phase&> {
  using Result = std::invoke_result_t<Phase&>;
  if constexpr (std::is_void_v<Result>) {
    agree_on(comm, std::ref(phase));
  } else {
    std::optional<Result> result;
    agree_on(comm, [&] { result.emplace(phase()); });
    return std::move(*result);
  }
}

}  // namespace takt
