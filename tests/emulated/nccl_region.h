// Region: the shared memory in which the ranks of one emulated communicator meet.
//
// Always POSIX shared memory under the name in the unique id, since nobody knows at the start whether a peer is a thread
// or another process. Parts that only processes touch are sparse, and cost nothing among threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "tests/emulated/sync.h"

namespace takt::emulated {

enum class Kind : int32_t {
  kAllReduce,
  kReduce,
  kBroadcast,
  kAllGather,
  kReduceScatter,
  kAllToAll,
  kMessages
};
const char* name_of(Kind kind);  // "ncclAllReduce"

// What all ranks must have in common in one operation.
struct CallRecord {
  Kind kind = Kind::kMessages;
  int32_t type = 0, op = 0, root = 0;
  uint64_t count = 0;
  bool operator==(const CallRecord&) const = default;
};

// What one rank shows the others.
struct Slot {
  std::atomic<uint32_t> bell;         // moves when a message box of this rank changes
  std::atomic<uint64_t> sequence;     // the operation that the rank is in or was in last; from 1
  std::atomic<uint64_t> num_settled;  // host-side meetings it has come to
  std::atomic<uint32_t> wanted;       // by other processes, up to this operation: see demand()
  int32_t process, device;
  uint64_t agreed;  // what must be alike in a host-side meeting: hash of ids, bytes of a window
  int32_t color, key;
  CallRecord call;
  const void* send;  // valid among threads only, as `result`
  void* result;
};

// A barrier for all ranks of the communicator.
struct Meeting {
  std::atomic<uint32_t> num_arrived, generation;
  Edge edges[2];
};

// A message under way from one rank to another, in pieces; among threads a pointer.
struct Box {
  std::atomic<uint32_t> is_full;
  uint32_t num_bytes;
  uint64_t total_bytes;
  const void* data;
  Edge edge;
};

class Region {
 public:
  // The region of that name, made if it is not there. All processes pass the same number of ranks.
  static std::shared_ptr<Region> attach(const std::string& name, int num_ranks);
  Region(const std::string& name, int num_ranks);
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  // Once all ranks have attached: nothing is left behind, however the processes end.
  void unlink_name() const;

  struct Head {
    Meeting on_device, on_host;
    std::atomic<uint32_t> failed;  // an ncclResult_t, then for all ranks
    char message[512];
  };
  Head& head() { return *reinterpret_cast<Head*>(memory_); }
  Slot& slot(int rank);
  std::byte* chunk(int rank);
  std::size_t chunk_bytes() const { return chunk_bytes_; }
  Box& box(int from, int to);
  std::byte* box_data(int from, int to);
  std::size_t box_bytes() const { return box_bytes_; }

 private:
  std::size_t pair(int from, int to) const;

  std::string name_;
  std::size_t num_ranks_, chunk_bytes_, box_bytes_;
  std::size_t slots_at_, boxes_at_, chunks_at_, box_data_at_, num_bytes_;
  std::byte* memory_ = nullptr;
};

}  // namespace takt::emulated
