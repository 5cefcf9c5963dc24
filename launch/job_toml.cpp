// The only file that knows toml++: its tables become JobFields in the order they were written.
#include "launch/job_toml.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

// Compiled in here rather than linked, and without the library's assertions: in 3.3 a file with a line such
// as "[=a]" fails one, which would end the process. Behind each of them stands a check that reports the error properly.
#undef TOML_HEADER_ONLY
#undef TOML_SHARED_LIB
#define TOML_HEADER_ONLY 1
#define TOML_ASSERT(condition) static_cast<void>(0)
#include <toml++/toml.h>

#include "core/base/error.h"

namespace takt {
namespace {

constexpr std::size_t kLongestShownLine = 300;  // bytes; a longer line is not repeated in an error

SourceSpan span_of(const toml::source_region& region) {
  const bool is_one_line = region.begin.line == region.end.line && region.end.column > region.begin.column;
  return {.line = static_cast<int>(region.begin.line),
          .column = static_cast<int>(region.begin.column),
          .width = is_one_line ? static_cast<int>(region.end.column - region.begin.column) : 0};
}

std::vector<JobField> fields_of(const toml::table& table);

JobValue value_of(const toml::node& node) {
  JobValue value{.data = {}, .at = span_of(node.source())};
  if (const auto* flag = node.as_boolean()) value.data = flag->get();
  if (const auto* whole = node.as_integer()) value.data = whole->get();
  if (const auto* real = node.as_floating_point()) value.data = real->get();
  if (const auto* text = node.as_string()) value.data = text->get();
  if (const auto* table = node.as_table()) value.data = fields_of(*table);
  if (const auto* array = node.as_array()) {
    std::vector<JobValue> list;
    for (const toml::node& item : *array) list.push_back(value_of(item));
    value.data = std::move(list);
  }
  return value;
}

std::vector<JobField> fields_of(const toml::table& table) {
  std::vector<JobField> fields;
  for (const auto& [key, node] : table)
    fields.push_back(
        {.name = std::string(key.str()), .name_at = span_of(key.source()), .value = value_of(node)});
  std::stable_sort(fields.begin(), fields.end(), [](const JobField& a, const JobField& b) {
    return std::pair(a.name_at.line, a.name_at.column) < std::pair(b.name_at.line, b.name_at.column);
  });
  return fields;
}

toml::table parse(std::string_view text) {
  return toml::parse(text);
}

std::string_view line_of(std::string_view text, int line) {
  for (int i = 1; i < line; ++i) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  text = text.substr(0, text.find('\n'));
  while (text.ends_with('\r')) text.remove_suffix(1);
  return text;
}

std::size_t num_characters(std::string_view utf8) {
  return static_cast<std::size_t>(std::count_if(
      utf8.begin(), utf8.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

// Spaces up to the column, keeping tabs so that the carets stand under what they mean.
std::string indent_to(std::string_view line, int column) {
  std::string indent;
  for (const char c : line) {
    if (static_cast<int>(indent.size()) >= column - 1) break;
    if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) indent += c == '\t' ? '\t' : ' ';
  }
  return indent;
}

std::string shown(std::string_view line) {
  std::string clean;
  for (const char c : line) clean += c == '\t' ? std::string(1, c) : printable(std::string_view(&c, 1));
  return clean;
}

// "Error while parsing boolean: expected ..." without its first words.
std::string reason_of(const toml::parse_error& error) {
  std::string_view reason = error.description();
  constexpr std::string_view kPrefix = "Error while parsing ";
  if (reason.starts_with(kPrefix)) reason.remove_prefix(kPrefix.size());
  return printable(reason);
}

}  // namespace

std::vector<JobField> read_toml(const SourceText& source) {
  try {
    return fields_of(parse(source.text));
  } catch (const toml::parse_error& error) {
    fail_at(source,
            {.line = static_cast<int>(error.source().begin.line),
             .column = static_cast<int>(error.source().begin.column),
             .width = 1},
            "not TOML: " + reason_of(error), "");
  }
}

std::optional<JobValue> read_toml_value(std::string_view text) {
  try {
    const toml::table table = parse("value = " + std::string(text));
    if (table.size() != 1) return std::nullopt;  // the text held a line of its own
    return value_of(*table.get("value"));
  } catch (const toml::parse_error&) {
    return std::nullopt;
  }
}

void fail_at(const SourceText& source, const SourceSpan& at, std::string_view message,
             std::string_view note) {
  std::string text = fmt::format("{}:{}:{}: {}", source.name, at.line, at.column, message);
  const std::string_view line = line_of(source.text, at.line);
  if (line.size() > kLongestShownLine) {
    if (!note.empty()) text += fmt::format("\n  {}", note);
    fail(Fault::kConfig, text);
  }
  const std::string indent = indent_to(line, at.column);
  const std::size_t length = num_characters(line);
  const std::size_t rest = length > indent.size() ? length - indent.size() : 1;
  const std::size_t width = at.width > 0 ? std::min(static_cast<std::size_t>(at.width), rest) : rest;
  const std::string number = std::to_string(at.line);
  text += fmt::format("\n  {} | {}\n  {:{}} | {}{}", number, shown(line), "", number.size(), indent,
                      '^' + std::string(width > 0 ? width - 1 : 0, '~'));
  if (!note.empty()) text += fmt::format(" {}", note);
  fail(Fault::kConfig, text);
}

}  // namespace takt
