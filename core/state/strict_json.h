// JSON from files that may be damaged or hostile.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace takt {

// Refuses what is not exactly one JSON value of valid UTF-8, objects with a key twice, and nesting deeper
// than 16. `source` names the text in messages. Throws kData.
nlohmann::json parse_strict_json(std::string_view text, const std::string& source);

}  // namespace takt
