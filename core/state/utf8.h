// UTF-8.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace takt {

// Where the first byte stands that is not part of a code point's shortest encoding; nullopt if the text is UTF-8.
std::optional<std::size_t> find_invalid_utf8(std::string_view text);

}  // namespace takt
