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

void ReadBack::queue(std::span<const std::span<const std::byte>> pieces, const CudaStream& stream) {
  std::span<std::byte> to = staging_.bytes();
  for (const std::span<const std::byte> piece : pieces) {
    TAKT_ASSERT(piece.size() <= to.size(), "cuda: a read-back of ", staging_.bytes().size(),
                " bytes was given more");
    TAKT_CUDA(cudaMemcpyAsync(to.data(), piece.data(), piece.size(), cudaMemcpyDeviceToHost, stream.get()));
    to = to.subspan(piece.size());
  }
  copied_.record(stream);
}

std::span<const std::byte> ReadBack::wait() const {
  copied_.synchronize();
  return staging_.bytes();
}

}  // namespace takt
