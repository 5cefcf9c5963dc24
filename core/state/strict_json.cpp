// The JSON library keeps the last of two equal keys and stops at a zero byte, so that two readers may see two
// different files. Both are refused here.
#include "core/state/strict_json.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "core/base/error.h"

namespace takt {
namespace {

using nlohmann::json;
constexpr int kMaxDepth = 16;

}  // namespace

json parse_strict_json(std::string_view text, const std::string& source) {
  if (text.find('\0') != std::string_view::npos)
    fail(Fault::kData, source, ": holds a zero byte, wanted JSON");
  std::vector<std::set<std::string>> keys_of_open_objects;
  const auto check = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > kMaxDepth) fail(Fault::kData, source, ": JSON is nested deeper than ", kMaxDepth);
    if (event == json::parse_event_t::object_start) keys_of_open_objects.emplace_back();
    if (event == json::parse_event_t::object_end) keys_of_open_objects.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!keys_of_open_objects.back().insert(key).second)
        fail(Fault::kData, source, ": JSON has the key '", key, "' twice in one object");
    }
    return true;
  };
  try {
    return json::parse(text, check);
  } catch (const json::exception& error) {
    fail(Fault::kData, source, ": not valid JSON: ", error.what());
  }
}

}  // namespace takt
