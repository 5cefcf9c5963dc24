// Writing the values of a job file: for error messages, and as TOML that reads back to the same bits.
#include "launch/job_value.h"

#include <fmt/format.h>

#include <algorithm>

namespace takt {
namespace {

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

struct Describe {
  std::string operator()(std::monostate) const { return "a date or time"; }
  std::string operator()(bool flag) const { return flag ? "true" : "false"; }
  std::string operator()(std::int64_t number) const { return std::to_string(number); }
  std::string operator()(double number) const { return toml_text(number); }
  std::string operator()(const std::string& text) const { return '"' + printable(text) + '"'; }
  std::string operator()(const std::vector<JobValue>& list) const {
    std::string text;
    for (const JobValue& value : list) text += (text.empty() ? "" : ", ") + describe(value);
    return text.size() <= 60 ? '[' + text + ']' : fmt::format("a list of {}", list.size());
  }
  std::string operator()(const std::vector<JobField>& table) const {
    std::string text;
    for (const JobField& field : table)
      text += (text.empty() ? "" : ", ") + printable(field.name) + " = " + describe(field.value);
    return text.size() <= 60 ? "{ " + text + " }" : fmt::format("a table of {}", table.size());
  }
};

}  // namespace

std::string describe(const JobValue& value) {
  return std::visit(Describe{}, value.data);
}

std::string toml_text(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (is_control(c)) {
      quoted += fmt::format("\\u{:04X}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

// The shortest digits that round to the same double. A whole number is a TOML integer, which number keys accept.
std::string toml_text(double number) {
  return fmt::format("{}", number);
}

std::string toml_text(const std::vector<std::string>& texts) {
  std::string list;
  for (const std::string& text : texts)
    list += (list.empty() ? "" : ", ") + toml_text(std::string_view(text));
  return '[' + list + ']';
}

std::string printable(std::string_view text) {
  std::string clean(text);
  std::replace_if(clean.begin(), clean.end(), is_control, '?');
  return clean;
}

}  // namespace takt
