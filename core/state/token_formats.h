// The file layouts of token datasets, see token_dataset.h.
#pragma once

#include <string>

#include "core/state/token_dataset.h"

namespace takt {

std::size_t num_bytes(TokenType type);

// Opens an llm.c file or a Megatron prefix and checks all but the tokens. Throws kData as TokenDataset::open does.
TokenDataset::Stream open_token_stream(const std::string& path);

}  // namespace takt
