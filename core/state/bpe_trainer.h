// Training of a byte-level byte-pair encoding.
#pragma once

#include <string_view>

#include "core/state/tokenizer.h"

namespace takt {

// Tokens 0 to 255 are the bytes, then come the merges in the order they were made, and the last is
// kEndOfText. The same text gives the same tokenizer on every machine: of equally frequent pairs, the one
// with lower numbers merges. Throws kConfig for a vocabulary under 257, kData if the text is too small or too
// uniform for so large a one.
Tokenizer train_bpe(std::string_view text, int vocab_size);

}  // namespace takt
