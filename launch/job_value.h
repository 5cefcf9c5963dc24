// One value of a job file, free of the library that read it, and where it stands.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace takt {

// A piece of one line. Lines and columns count from 1, columns in characters; line 0: not from a file.
struct SourceSpan {
  int line = 0;
  int column = 0;
  int width = 1;  // characters; 0: to the end of the line
};

struct JobField;

struct JobValue {
  // monostate: a date or time, which no key takes.
  std::variant<std::monostate, bool, std::int64_t, double, std::string, std::vector<JobValue>,
               std::vector<JobField>>
      data;
  SourceSpan at;
};

struct JobField {
  std::string name;
  SourceSpan name_at;
  JobValue value;
};

// The value as an error message shows it: `"fast"`, `6`, `a table`.
std::string describe(const JobValue& value);

// Values as TOML, such that reading them gives the same bits.
std::string toml_text(std::string_view text);
std::string toml_text(double number);
std::string toml_text(const std::vector<std::string>& texts);

// The text with control characters replaced, so that it stays on one line and cannot steer a terminal.
std::string printable(std::string_view text);

}  // namespace takt
