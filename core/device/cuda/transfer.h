// Data between host and GPU without a wait in the step: through pinned memory, in stream order.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "core/device/cuda/hand_over.h"
#include "core/device/cuda/pinned.h"

namespace takt {

// One slot of an input: the host writes it while the step computes on another slot.
//
//   slot.write(bytes, device, copy_stream);   // any time
//   slot.begin_use(compute);                  // before the program that reads it is queued...
//   slot.end_use(compute);                    // ...and behind it
class InputSlot {
 public:
  // `input` names it, for errors.
  InputSlot(const std::string& input, std::size_t num_bytes);

  // Copies `bytes` to `device` on `stream`, behind the last use. Returns when `bytes` may be changed; waits only for
  // this slot's earlier copy.
  void write(std::span<const std::byte> bytes, std::byte* device, const CudaStream& stream);
  // Throws kBug if the slot was never written.
  void begin_use(const CudaStream& stream) { written_.take(stream); }
  void end_use(const CudaStream& stream) { read_.give(stream); }

 private:
  PinnedBuffer staging_;
  HandOver written_;
  HandOver read_;
};

// A small result on its way to the host.
class ReadBack {
 public:
  explicit ReadBack(std::size_t num_bytes) : staging_(num_bytes) {}

  // Queues the copy of pieces of the GPU's memory, one behind the other; together as many bytes as the buffer has. The host
  // must have waited for the copy before.
  void queue(std::span<const std::span<const std::byte>> pieces, const CudaStream& stream);
  void queue(std::span<const std::byte> piece, const CudaStream& stream) { queue({&piece, 1}, stream); }
  bool is_done() const { return copied_.is_done(); }
  // Waits on the host for the last queued copy; valid until the next.
  std::span<const std::byte> wait() const;

 private:
  PinnedBuffer staging_;
  CudaEvent copied_;
};

}  // namespace takt
