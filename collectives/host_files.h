// Host files: what the hosts of a run leave each other in the run directory, so that a watchdog knows of
// ranks whose memory it does not see. One file a host, rewritten now and then, and once more when it fires.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "collectives/rank_record.h"

namespace takt {

// Which host of the run this is.
struct HostPlace {
  int host = 0;  // from 0, in the order of the hosts' lowest ranks
  int num_hosts = 1;
  int num_ranks = 1;  // of the run
  std::array<char, 64> name = {};
};

// A path in memory of its own; empty: too long, or none.
using PathText = std::array<char, 1024>;
PathText path_text(std::string_view directory, std::string_view name = {});
PathText host_file(const PathText& run_directory, int host);

// All of these allocate nothing. They may wait for the file system, also forever.

// False: it could not be written.
bool write_whole_file(const PathText& path, std::span<const std::byte> data, bool must_be_new);
// Snapshots of one host's ranks. idle_s: since any of them moved on.
bool write_host_file(const PathText& run_directory, int host, std::span<const RankSnapshot> ranks,
                     double idle_s, bool has_fired);

struct HostNews {
  bool is_known = false;
  bool has_fired = false;
  double idle_s = 0;          // when it was written
  double written_s = 0;       // modification time, by the clock of the file system
  std::size_t num_ranks = 0;  // put into `ranks`
};
// ranks: takes as many snapshots as fit; may be empty.
HostNews read_host_file(const PathText& run_directory, int host, std::span<RankSnapshot> ranks);

}  // namespace takt
