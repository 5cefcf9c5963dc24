// memory_plan: gives every value a place in one arena, so that a step allocates nothing.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/base/string_map.h"
#include "core/graph/graph.h"
#include "core/graph/look_alikes.h"
#include "core/mesh/mesh.h"
#include "core/passes/persistent_table.h"

namespace takt {

// Every offset is a multiple of this many bytes.
inline constexpr std::size_t kArenaAlignment = 64;
std::size_t aligned(std::size_t num_bytes);

// Inputs have this many places, used in turn, so that the next micro-batch can be written while one runs.
inline constexpr int kInputSlots = 2;

// Where one program's values and scratch lie, in bytes from the start of the arena.
struct ProgramMemory {
  std::vector<std::size_t> value_offsets;    // by value
  std::vector<std::size_t> scratch_offsets;  // by node
  std::size_t num_bytes = 0;  // end of the program's temporary values, from the end of the persistent ones
};

// The arena of a rank: first what persists, then a region that the programs use one after the other.
struct ArenaPlan {
  struct Place {
    std::size_t offset = 0;
    std::size_t slot_stride = 0;  // inputs: bytes from one slot to the next; else 0
  };
  StringMap<Place> persistents;               // inputs too
  std::map<Role, std::size_t> bytes_by_role;  // persistent values and inputs
  std::size_t persistent_bytes = 0;
  std::size_t temporary_bytes = 0;  // the largest program's
  std::vector<ProgramMemory> programs;

  std::size_t num_bytes() const { return persistent_bytes + temporary_bytes; }
};

// A piece of storage that a program needs for a while: from the node that first writes it to the one at which the last
// reader is over, which for a started collective is its done.
struct Block {
  std::size_t num_bytes = 0;  // 0: lives in the storage of another value, or outside of the program
  int first = 0, last = 0;    // node numbers, inclusive
  std::size_t offset = 0;     // set by pack
};

struct Lifetimes {
  std::vector<std::size_t>
      storages;                // by value: the value in whose storage it lives; itself if it has its own
  std::vector<Block> values;   // by value
  std::vector<Block> scratch;  // by node
  std::size_t num_bytes = 0;   // the end of the highest block; set by pack
};
// `scratch`: bytes by node, see scratch_of_nodes.
Lifetimes lifetimes_of(const Graph& graph, std::span<const std::size_t> scratch);
// Places all blocks. Values whose lives do not overlap may share storage: sorted by size, each takes the lowest gap that
// is free for its whole life (Sekiyama et al. 2018, arXiv:1804.10001).
void pack(Lifetimes& lives);
// Both, for a graph as it is.
Lifetimes packed_lifetimes_of(const Graph& graph, const Mesh& mesh, const RankDevice& device);

// Scratch that each node's kernel asks for on any rank.
std::vector<std::size_t> scratch_of_nodes(const Graph& graph, const LookAlikes& alike, const Mesh& mesh,
                                          const RankDevice& device);

// Lays the packed blocks of all programs behind the inputs and persistent values of `table`, which have storage of their
// own; members of an all-reduce bucket lie side by side. `lives` are of the programs.
ArenaPlan plan_memory(const PersistentTable& table, std::span<const Graph* const> programs,
                      std::span<const Lifetimes> lives);

}  // namespace takt
