// agree: one rank's failure in a set-up phase becomes the same Error on every rank, instead of a hang on the others.
//
// Every rank sends a short outcome to all (an all-gather); if any failed, the lowest failing rank sends its
// message. A rank that fails while others are in a call of the phase meets that call with its outcome: the
// signatures differ, so everybody gets a kPeer, the others leave the phase by it, and all exchange outcomes
// once more. That kPeer is only an echo, so a rank with another fault is the one that is reported.
#include "collectives/agree.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "collectives/share.h"
#include "core/base/error.h"

namespace takt {
namespace {

// What a rank tells the others about its phase; travels as bytes.
struct Outcome {
  std::int64_t fault = 0;  // 0: the phase succeeded
  std::uint64_t message_hash = 0;

  bool has_failed() const { return fault != 0; }
};
static_assert(std::has_unique_object_representations_v<Outcome>);

struct Failure {
  Fault fault = Fault::kBug;
  std::string message;
};

std::optional<Failure> failure_of(const std::function<void()>& phase) {
  try {
    phase();
    return std::nullopt;
  } catch (const Error& error) {
    return Failure{error.fault(), error.what()};
  } catch (const std::exception& error) {
    return Failure{Fault::kBug, error.what()};
  }
}

Outcome outcome_of(const std::optional<Failure>& failure) {
  if (!failure) return {};
  return {static_cast<std::int64_t>(failure->fault), std::hash<std::string>{}(failure->message)};
}

std::vector<Outcome> gather_outcomes(Communicator& comm, const Outcome& mine) {
  std::vector<Outcome> outcomes(static_cast<std::size_t>(comm.size()));
  comm.all_gather(&mine, outcomes.data(), sizeof(Outcome), DType::kU8, {.value = "agree: outcome"});
  return outcomes;
}

// The lowest rank whose failure is its own and not an echo; -1 if all succeeded.
int reporting_rank(const std::vector<Outcome>& outcomes) {
  int echo = -1;
  for (int rank = 0; rank < static_cast<int>(outcomes.size()); ++rank) {
    const Outcome& outcome = outcomes[static_cast<std::size_t>(rank)];
    if (!outcome.has_failed()) continue;
    if (outcome.fault != static_cast<std::int64_t>(Fault::kPeer)) return rank;
    if (echo < 0) echo = rank;
  }
  return echo;
}

bool all_failed_alike(const std::vector<Outcome>& outcomes) {
  return std::all_of(outcomes.begin(), outcomes.end(), [&](const Outcome& outcome) {
    return outcome.has_failed() && outcome.message_hash == outcomes[0].message_hash;
  });
}

std::string host_name() {
  std::array<char, 256> name = {};
  if (gethostname(name.data(), name.size() - 1) != 0) return "unknown host";
  return name.data();
}

}  // namespace

void agree_on(Communicator& comm, const std::function<void()>& phase) {
  std::optional<Failure> failure = failure_of(phase);
  std::vector<Outcome> outcomes;
  const auto exchange = [&] { outcomes = gather_outcomes(comm, outcome_of(failure)); };
  if (const std::optional<Failure> echo = failure_of(exchange)) {
    if (!failure) failure = echo;
    exchange();
  }
  const int reporter = reporting_rank(outcomes);
  if (reporter < 0) return;
  std::string message;
  if (comm.rank() == reporter) {
    if (!all_failed_alike(outcomes)) message = concat("rank ", reporter, " (", host_name(), "): ");
    message += failure->message;
  }
  Error error(static_cast<Fault>(outcomes[static_cast<std::size_t>(reporter)].fault),
              share_text(comm, message, reporter));
  error.set_agreed();
  throw error;
}

}  // namespace takt
