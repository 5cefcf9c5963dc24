// TokenSamples: a token dataset as samples of one length, for models that predict the next token.
#pragma once

#include <cstdint>
#include <span>

#include "core/state/dataset.h"
#include "core/state/token_dataset.h"

namespace takt {

// Inputs, both i32 of [samples, seq]: "tokens", and "targets", the token that follows each. A padding sample
// has tokens 0 and targets -1, the class that no rank has.
class TokenSamples final : public Dataset {
 public:
  // Throws kData if no file is long enough for one sample.
  TokenSamples(TokenDataset data, std::int64_t seq);

  const TokenDataset& data() const { return data_; }
  std::int64_t seq() const { return seq_; }

  std::int64_t num_samples() const override { return num_samples_; }
  void fill(std::span<const std::int64_t> samples, std::span<const NamedBuffer> buffers) const override;
  // Of the tokens: how they are cut into samples is another fact.
  std::uint64_t content_hash() const override { return data_.content_hash(); }

 private:
  TokenDataset data_;
  std::int64_t seq_;
  std::int64_t num_samples_;
};

}  // namespace takt
