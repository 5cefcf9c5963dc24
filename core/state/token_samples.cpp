// Targets are tokens one further, so one reader serves both inputs.
#include "core/state/token_samples.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"

namespace takt {
namespace {

constexpr std::string_view kTokensName = "tokens", kTargetsName = "targets";
constexpr std::int32_t kPaddingToken = 0, kPaddingTarget = -1;

}  // namespace

TokenSamples::TokenSamples(TokenDataset data, std::int64_t seq) : data_(std::move(data)), seq_(seq) {
  data_.require_samples(seq);
  num_samples_ = data_.num_samples(seq);
}

void TokenSamples::fill(std::span<const std::int64_t> samples, std::span<const NamedBuffer> buffers) const {
  for (const NamedBuffer& buffer : buffers) {
    const bool is_targets = buffer.name == kTargetsName;
    TAKT_REQUIRE((is_targets || buffer.name == kTokensName) && buffer.dtype == DType::kI32,
                 "dataset of tokens: has no input '", buffer.name, "' of ", buffer.dtype,
                 ", it has tokens and targets of i32");
    const auto row = static_cast<std::size_t>(seq_);
    TAKT_ASSERT(buffer.bytes.size() == samples.size() * row * sizeof(std::int32_t), "input '", buffer.name,
                "': ", buffer.bytes.size(), " bytes for ", samples.size(), " samples of ", seq_, " tokens");
    auto* to = reinterpret_cast<std::int32_t*>(buffer.bytes.data());
    for (const std::int64_t sample : samples) {
      if (sample == kPaddingSample)
        std::fill_n(to, row, is_targets ? kPaddingTarget : kPaddingToken);
      else
        data_.read(sample, seq_, is_targets ? 1 : 0, {to, row});
      to += row;
    }
  }
}

}  // namespace takt
