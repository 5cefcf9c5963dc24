// Reading TOML into job fields that know where they stand, and errors that point there.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launch/job_value.h"

namespace takt {

// A text with the name its errors give it.
struct SourceText {
  std::string name;  // "job.toml"
  std::string text;
};

// The fields of the top level, in the order of the text. Throws kConfig for what is not TOML, pointing at it.
std::vector<JobField> read_toml(const SourceText& source);

// One value, such as `1e-3` or `{ tensor = 2 }`; nullopt if the text is not exactly one TOML value.
std::optional<JobValue> read_toml_value(std::string_view text);

// Throws kConfig: "name:line:col: message", the line, and carets under the span with the note behind them.
[[noreturn]] void fail_at(const SourceText& source, const SourceSpan& at, std::string_view message,
                          std::string_view note);

}  // namespace takt
