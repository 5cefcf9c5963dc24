// The collective backends this build knows.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "collectives/communicator.h"
#include "collectives/signature.h"

namespace takt {

// What a backend starts from: ranks that can already talk to each other.
struct BackendRanks {
  Communicator& control;  // all of them, in their order; outlives what is made
  CallLog& log;           // this rank's; outlives what is made
};

struct CollectiveBackend {
  std::string_view name;
  std::string_view summary;
  std::string_view build_option;  // of CMake, that compiles it in; empty: always there
  // A communicator over all ranks of `ranks.control`. Every one of them calls it. Null: not compiled in.
  std::unique_ptr<Communicator> (*make)(const BackendRanks& ranks) = nullptr;

  bool compiled_in() const { return make != nullptr; }
};

// In alphabetical order.
std::span<const CollectiveBackend> collective_backends();

// Throws kConfig with the known names if there is no such backend.
const CollectiveBackend& find_collective_backend(std::string_view name);

// A communicator of backend `name` over all ranks of `ranks.control`; every one of them calls it. Throws
// kConfig if there is no such backend, if it is not compiled in (with the build option), or if these
// ranks cannot use it.
std::unique_ptr<Communicator> make_communicator(std::string_view name, const BackendRanks& ranks);

}  // namespace takt
