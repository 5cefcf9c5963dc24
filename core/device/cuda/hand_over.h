// HandOver: what one stream has written may be read on another. Nothing else makes a stream wait for a stream.
//
//   HandOver grads("grads of block 3");
//   ...                          // compute writes them
//   grads.give(compute);
//   grads.take(communication);   // ...and from here on communication reads them
//
// The same for what must not be overwritten yet: the reader gives, the next writer takes.
#pragma once

#include <cstdint>
#include <string>

#include "core/device/cuda/event.h"

namespace takt {

class HandOver {
 public:
  // `value` names what is handed over, for errors.
  explicit HandOver(std::string value) : value_(std::move(value)) {}

  // Behind all work that the value waits for. Giving again moves the point; takes before that keep the old one.
  void give(const CudaStream& from);
  // Nothing queued on `to` after this begins before the point of the last give. Throws kBug if there was none, since
  // that wait would return at once. No wait where both streams are one.
  void take(const CudaStream& to);
  // Waits on the host for the point of the last give.
  void wait_on_host() const;

  bool is_given() const { return from_ != nullptr; }
  // Takes that made a stream wait.
  std::int64_t num_waits() const { return num_waits_; }

 private:
  std::string value_;
  CudaEvent event_;
  cudaStream_t from_ = nullptr;
  std::int64_t num_waits_ = 0;
};

}  // namespace takt
