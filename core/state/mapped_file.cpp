// mmap of a whole file. The ranks of a host share its pages, and a dataset may be larger than memory.
#include "core/state/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>

#include "core/base/error.h"
#include "core/state/system_calls.h"

namespace takt {

MappedFile::MappedFile(const std::filesystem::path& path) {
  const FileDescriptor descriptor = open_descriptor(path, O_RDONLY);
  if (!descriptor && (errno == ENOENT || errno == ENOTDIR))
    fail(Fault::kData, path.string(), ": there is no such file");
  if (!descriptor) fail_io(path, "read", errno);
  struct stat status = {};
  if (::fstat(descriptor.get(), &status) != 0) fail_io(path, "read", errno);
  if (!S_ISREG(status.st_mode)) fail(Fault::kData, path.string(), ": is not a file");
  if (status.st_size == 0) return;  // mmap takes no empty range
  const auto num_bytes = static_cast<std::size_t>(status.st_size);
  void* const data = ::mmap(nullptr, num_bytes, PROT_READ, MAP_PRIVATE, descriptor.get(), 0);
  if (data == MAP_FAILED) fail_io(path, "read", errno);
  bytes_ = {static_cast<const std::byte*>(data), num_bytes};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace takt
