// Shared memory of a block: see shared_memory.h.
//
// A library's TLS segment has the static variables of all its kernels. Filling it whole before every block would cost more
// than many kernels do, so a grid fills it once, and every block only the span that this kernel has been seen to use.
#include "tests/emulated/shared_memory.h"

#include <link.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace takt::emulated {
namespace {

constexpr unsigned char kUnwritten = 0xff;  // NaN in every floating type
constexpr unsigned char kGuard = 0xa5;
constexpr std::size_t kGuardBytes = 64;
constexpr std::size_t kAlignment = 128;

bool holds(const dl_phdr_info& module, const void* address) {
  const auto wanted = reinterpret_cast<uintptr_t>(address);
  for (int i = 0; i < module.dlpi_phnum; ++i) {
    const auto& segment = module.dlpi_phdr[i];
    const uintptr_t begin = module.dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_LOAD && wanted >= begin && wanted < begin + segment.p_memsz) return true;
  }
  return false;
}

std::size_t tls_bytes(const dl_phdr_info& module) {
  for (int i = 0; i < module.dlpi_phnum; ++i)
    if (module.dlpi_phdr[i].p_type == PT_TLS) return module.dlpi_phdr[i].p_memsz;
  return 0;
}

struct Search {
  const void* kernel;
  StaticShared found;
};

int visit(dl_phdr_info* module, std::size_t, void* opaque) {
  auto& search = *static_cast<Search*>(opaque);
  if (!holds(*module, search.kernel)) return 0;
  const bool has_emulator = holds(*module, reinterpret_cast<const void*>(&visit));
  if (!has_emulator && module->dlpi_tls_data != nullptr)
    search.found = {static_cast<unsigned char*>(module->dlpi_tls_data), tls_bytes(*module)};
  return 1;
}

}  // namespace

StaticShared find_static_shared(const void* kernel) {
  Search search{kernel, {}};
  dl_iterate_phdr(visit, &search);
  return search.found;
}

void SharedMemory::begin_grid(const void* kernel, std::size_t dynamic_bytes) {
  kernel_ = kernel;
  dynamic_bytes_ = dynamic_bytes;
  if (buffer_.size() < dynamic_bytes + kGuardBytes + kAlignment)
    buffer_.resize(dynamic_bytes + kGuardBytes + kAlignment);
  const auto start = reinterpret_cast<uintptr_t>(buffer_.data());
  dynamic_begin_ = buffer_.data() + ((start + kAlignment - 1) / kAlignment * kAlignment - start);
  const auto [place, is_new] = found_.try_emplace(kernel);
  if (is_new) place->second = find_static_shared(kernel);
  static_ = place->second;
  if (static_.num_bytes > 0) std::memset(static_.begin, kUnwritten, static_.num_bytes);
}

void SharedMemory::begin_block() {
  std::memset(dynamic_begin_, kUnwritten, dynamic_bytes_);
  std::memset(dynamic_begin_ + dynamic_bytes_, kGuard, kGuardBytes);
  const auto used = used_.find(kernel_);
  if (used == used_.end()) return;  // the grid's first block: begin_grid has filled everything
  const auto [begin, end] = used->second;
  if (end > begin) std::memset(static_.begin + begin, kUnwritten, end - begin);
}

std::optional<std::size_t> SharedMemory::overflow() const {
  for (std::size_t i = 0; i < kGuardBytes; ++i)
    if (dynamic_begin_[dynamic_bytes_ + i] != kGuard) return dynamic_bytes_ + i;
  return std::nullopt;
}

void SharedMemory::learn_used() {
  const auto written = [](unsigned char byte) { return byte != kUnwritten; };
  Extent& used = used_[kernel_];
  unsigned char* end = static_.begin + static_.num_bytes;
  unsigned char* first = std::find_if(static_.begin, end, written);
  if (first == end) return;
  while (!written(end[-1])) --end;
  const Extent now{std::size_t(first - static_.begin), std::size_t(end - static_.begin)};
  used = used.end == 0 ? now : Extent{std::min(used.begin, now.begin), std::max(used.end, now.end)};
}

}  // namespace takt::emulated
