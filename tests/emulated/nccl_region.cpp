// Zero-filled memory is a region in its first state, so that whoever comes first has nothing to prepare.
#include "tests/emulated/nccl_region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "tests/emulated/diagnosis.h"

namespace takt::emulated {
namespace {

constexpr std::size_t kLine = 256;
constexpr std::size_t kBudget = std::size_t{64} << 20;  // for all chunks, and for all boxes' data

std::size_t rounded(std::size_t num_bytes) {
  return (num_bytes + kLine - 1) / kLine * kLine;
}

// Regions of this process by name: ranks that are threads share one mapping, and so may pass pointers into it.
struct Attached {
  Mutex mutex;
  std::map<std::string, std::weak_ptr<Region>> regions;
};

Attached& attached() {
  static Attached all;
  return all;
}

}  // namespace

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::kAllReduce:
      return "ncclAllReduce";
    case Kind::kReduce:
      return "ncclReduce";
    case Kind::kBroadcast:
      return "ncclBroadcast";
    case Kind::kAllGather:
      return "ncclAllGather";
    case Kind::kReduceScatter:
      return "ncclReduceScatter";
    case Kind::kAllToAll:
      return "ncclAlltoAll";
    case Kind::kMessages:
      return "ncclSend/ncclRecv";
  }
  return "?";
}

std::shared_ptr<Region> Region::attach(const std::string& name, int num_ranks) {
  const Lock lock(attached().mutex);
  std::weak_ptr<Region>& known = attached().regions[name];
  std::shared_ptr<Region> region = known.lock();
  if (region == nullptr) {
    region = std::make_shared<Region>(name, num_ranks);
    known = region;
  }
  return region;
}

Region::Region(const std::string& name, int num_ranks)
    : name_(name),
      num_ranks_(static_cast<std::size_t>(num_ranks)),
      chunk_bytes_(std::clamp(kBudget / num_ranks_, std::size_t{16} << 10, std::size_t{1} << 20)),
      box_bytes_(
          std::clamp(kBudget / (num_ranks_ * num_ranks_), std::size_t{4} << 10, std::size_t{256} << 10)) {
  chunk_bytes_ = rounded(chunk_bytes_);
  box_bytes_ = rounded(box_bytes_);
  slots_at_ = rounded(sizeof(Head));
  boxes_at_ = slots_at_ + num_ranks_ * rounded(sizeof(Slot));
  chunks_at_ = rounded(boxes_at_ + num_ranks_ * num_ranks_ * sizeof(Box));
  box_data_at_ = chunks_at_ + num_ranks_ * chunk_bytes_;
  num_bytes_ = box_data_at_ + num_ranks_ * num_ranks_ * box_bytes_;
  const int file = ::shm_open(name.c_str(), O_RDWR | O_CREAT, 0600);
  if (file < 0 || ::ftruncate(file, static_cast<off_t>(num_bytes_)) != 0)
    forbidden("NCCL double: no shared memory " + name + ": " + std::strerror(errno));
  void* const memory =
      ::mmap(nullptr, num_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
  ::close(file);
  if (memory == MAP_FAILED)
    forbidden("NCCL double: cannot map shared memory: " + std::string(std::strerror(errno)));
  memory_ = static_cast<std::byte*>(memory);
}

Region::~Region() {
  ::munmap(memory_, num_bytes_);
}

void Region::unlink_name() const {
  ::shm_unlink(name_.c_str());
}

Slot& Region::slot(int rank) {
  return *reinterpret_cast<Slot*>(memory_ + slots_at_ +
                                  static_cast<std::size_t>(rank) * rounded(sizeof(Slot)));
}

std::byte* Region::chunk(int rank) {
  return memory_ + chunks_at_ + static_cast<std::size_t>(rank) * chunk_bytes_;
}

std::size_t Region::pair(int from, int to) const {
  return static_cast<std::size_t>(from) * num_ranks_ + static_cast<std::size_t>(to);
}

Box& Region::box(int from, int to) {
  return *reinterpret_cast<Box*>(memory_ + boxes_at_ + pair(from, to) * sizeof(Box));
}

std::byte* Region::box_data(int from, int to) {
  return memory_ + box_data_at_ + pair(from, to) * box_bytes_;
}

}  // namespace takt::emulated
