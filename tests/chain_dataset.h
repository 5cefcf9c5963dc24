// A dataset of tokens each of which follows from the one before.
#pragma once

#include <cstdint>
#include <span>

#include "core/state/dataset.h"

namespace takt {

class Chain final : public Dataset {
 public:
  Chain(std::int64_t seq, std::int64_t vocab) : seq_(seq), vocab_(vocab) {}
  std::int64_t num_samples() const override { return 40; }
  std::uint64_t content_hash() const override { return 3; }
  void fill(std::span<const std::int64_t> samples, std::span<const NamedBuffer> buffers) const override {
    for (const NamedBuffer& buffer : buffers) {
      auto* to = reinterpret_cast<std::int32_t*>(buffer.bytes.data());
      for (const std::int64_t sample : samples)
        for (std::int64_t i = 0; i < seq_; ++i)
          *to++ = static_cast<std::int32_t>(
              ((sample + 1) * 5 + 7 * (i + (buffer.name == "targets" ? 1 : 0))) % vocab_);
    }
  }

 private:
  std::int64_t seq_, vocab_;
};

}  // namespace takt
