// A copy from memory that is not pinned would make the host wait for the stream.
#include "core/device/cuda/transfer.h"

#include <algorithm>

namespace takt {

InputSlot::InputSlot(const std::string& input, std::size_t num_bytes)
    : staging_(num_bytes), written_(input), read_(concat(input, " after its use")) {}

void InputSlot::write(std::span<const std::byte> bytes, std::byte* device, const CudaStream& stream) {
  TAKT_ASSERT(bytes.size() == staging_.bytes().size(), "cuda: an input slot of ", staging_.bytes().size(),
              " bytes was written with ", bytes.size());
  if (written_.is_given()) written_.wait_on_host();
  std::ranges::copy(bytes, staging_.bytes().begin());
  if (read_.is_given()) read_.take(stream);
  TAKT_CUDA(
      cudaMemcpyAsync(device, staging_.bytes().data(), bytes.size(), cudaMemcpyHostToDevice, stream.get()));
  written_.give(stream);
}

void ReadBack::queue(const std::byte* device, const CudaStream& stream) {
  const std::span<std::byte> to = staging_.bytes();
  TAKT_CUDA(cudaMemcpyAsync(to.data(), device, to.size(), cudaMemcpyDeviceToHost, stream.get()));
  copied_.record(stream);
}

std::span<const std::byte> ReadBack::wait() const {
  copied_.synchronize();
  return staging_.bytes();
}

}  // namespace takt
