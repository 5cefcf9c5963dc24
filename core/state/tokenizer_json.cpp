// tokenizer.json: the file of the Hugging Face `tokenizers` library, for the one kind of tokenizer that Takt has.
//
// The format describes a pipeline: normalizer, pre_tokenizer, model, post_processor, decoder. Each part is
// compared with what we would write, and a file with any other part is refused: it would encode differently
// there and here. Tokens are written in the byte-level alphabet of GPT-2, one printable code point a byte.
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/base/error.h"
#include "core/state/durable_file.h"
#include "core/state/mapped_file.h"
#include "core/state/pretokenizer.h"
#include "core/state/strict_json.h"
#include "core/state/tokenizer.h"

namespace takt {
namespace {

using Json = nlohmann::json;

// The code point of each byte: printable Latin-1 stands for itself, the rest follow from U+0100 on.
constexpr std::array<std::uint32_t, 256> kAlphabet = [] {
  std::array<std::uint32_t, 256> alphabet{};
  std::uint32_t next = 256;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    alphabet[byte] = printable ? byte : next++;
  }
  return alphabet;
}();

std::string to_alphabet(std::string_view bytes) {
  std::string text;
  for (const unsigned char byte : bytes) {
    const std::uint32_t point = kAlphabet[byte];  // below U+0800: at most two bytes of UTF-8
    if (point >= 0x80) text += static_cast<char>(0xC0 | (point >> 6));
    text += static_cast<char>(point < 0x80 ? point : 0x80 | (point & 0x3F));
  }
  return text;
}

// nullopt if a character is not of the alphabet.
std::optional<std::string> from_alphabet(std::string_view text) {
  static const auto bytes_by_character = [] {
    std::unordered_map<std::string, char> bytes;
    for (int byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      bytes.emplace(to_alphabet({&c, 1}), c);
    }
    return bytes;
  }();
  std::string bytes;
  while (!text.empty()) {
    const std::size_t length = static_cast<unsigned char>(text[0]) < 0x80 ? 1 : 2;
    const auto found = bytes_by_character.find(std::string(text.substr(0, length)));
    if (found == bytes_by_character.end()) return std::nullopt;
    bytes += found->second;
    text.remove_prefix(found->first.size());
  }
  return bytes;
}

Json byte_level(bool add_prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Json pre_tokenizer() {
  const Json split = {
      {"type", "Split"}, {"pattern", {{"Regex", kWordRegex}}}, {"behavior", "Isolated"}, {"invert", false}};
  return {{"type", "Sequence"}, {"pretokenizers", Json::array({split, byte_level(false, false)})}};
}

Json added_token(std::int32_t number) {
  return {{"id", number},    {"content", kEndOfText}, {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false},   {"special", true}};
}

// The model without its vocabulary and merges.
Json model_settings() {
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", false}};
}

[[noreturn]] void refuse(const std::string& part, const Json& found) {
  std::string shown = found.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (shown.size() > 200) shown = shown.substr(0, 200) + "...";
  fail(Fault::kData, part, " is ", shown, ", which Takt does not support",
       "\n  supported: byte-level BPE as `takt data build` writes it (Split by its own regular expression, "
       "then"
       " ByteLevel; the added token ",
       kEndOfText, ")", "\n  build the dataset and its tokenizer from the text with `takt data build`");
}

// Every entry of `wanted` must be in `found` with that value; an entry that is missing counts as null or false.
void require_settings(const std::string& part, const Json& found, const Json& wanted) {
  if (!found.is_object()) refuse(part, found);
  for (const auto& [key, value] : wanted.items()) {
    const auto entry = found.find(key);
    const bool absent = entry == found.end() || entry->is_null() || *entry == "";
    if (absent ? value.is_null() || value == false : *entry == value) continue;
    if (entry == found.end()) refuse(part, found);
    refuse(part + "." + key, *entry);
  }
}

void require_null(const Json& file, const char* part) {
  if (const auto found = file.find(part); found != file.end() && !found->is_null()) refuse(part, *found);
}

void require_supported(const Json& file) {
  if (!file.is_object() || !file.contains("model"))
    fail(Fault::kData, "is not a tokenizer.json, it has no 'model'");
  for (const char* part : {"truncation", "padding", "normalizer"}) require_null(file, part);
  require_settings("model", file["model"], model_settings());
  const Json found = file.value("pre_tokenizer", Json());
  const Json wanted = pre_tokenizer();
  const Json parts = found.is_object() ? found.value("pretokenizers", Json()) : Json();
  if (!parts.is_array() || parts.size() != 2 || found.value("type", "") != "Sequence")
    refuse("pre_tokenizer", found);
  require_settings("pre_tokenizer[0]", parts[0], wanted["pretokenizers"][0]);
  // trim_offsets, here and below, moves character positions only, which Takt does not give.
  require_settings("pre_tokenizer[1]", parts[1], {{"type", "ByteLevel"}, {"add_prefix_space", false}});
  if (parts[1].value("use_regex", true)) refuse("pre_tokenizer[1]", parts[1]);  // absent, it is on
  require_settings("decoder", file.value("decoder", Json()), {{"type", "ByteLevel"}});
  const Json post = file.value("post_processor", Json());
  if (!post.is_null()) require_settings("post_processor", post, {{"type", "ByteLevel"}});
  const Json added = file.value("added_tokens", Json());
  if (!added.is_array() || added.size() != 1) refuse("added_tokens", added);
  require_settings("added_tokens[0]", added[0], added_token(added[0].at("id").get<std::int32_t>()));
}

// The two tokens of a merge, written "a b" or ["a", "b"].
std::pair<std::string, std::string> split_merge(const Json& merge) {
  if (merge.is_array() && merge.size() == 2)
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  const auto text = merge.get<std::string>();
  const std::size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
    fail(Fault::kData, "merge '", text, "' is not two tokens with a space between them");
  return {text.substr(0, space), text.substr(space + 1)};
}

void place(BpeModel& model, std::int64_t number, std::string bytes) {
  const auto vocab = static_cast<std::int64_t>(model.tokens.size());
  if (number < 0 || number >= vocab)
    fail(Fault::kData, "token number ", number, " is not in 0 to ", vocab - 1, ", as there are ", vocab,
         " tokens");
  if (!model.tokens[number].empty()) fail(Fault::kData, "two tokens have the number ", number);
  if (bytes.empty()) fail(Fault::kData, "token ", number, " is empty");
  model.tokens[number] = std::move(bytes);
}

BpeModel to_model(const Json& file) {
  std::unordered_map<std::string, std::int64_t> numbers;
  for (const auto& [text, number] : file.at("model").at("vocab").items()) {
    if (!number.is_number_integer()) fail(Fault::kData, "token '", text, "' has no whole number");
    numbers[text] = number.get<std::int64_t>();
  }
  BpeModel model;
  model.end_of_text = file.at("added_tokens")[0].at("id").get<std::int32_t>();
  numbers[std::string(kEndOfText)] = model.end_of_text;
  model.tokens.resize(numbers.size());
  for (const auto& [text, number] : numbers) {
    auto bytes = from_alphabet(text);
    if (!bytes) fail(Fault::kData, "token ", number, " '", text, "' is not in the byte-level alphabet");
    place(model, number, std::move(*bytes));
  }
  const auto number_of = [&](const std::string& text) {
    const auto found = numbers.find(text);
    if (found == numbers.end())
      fail(Fault::kData, "a merge makes or uses '", text, "', which is not in model.vocab");
    return static_cast<std::int32_t>(found->second);  // place() has checked it
  };
  for (const Json& merge : file.at("model").at("merges")) {
    const auto [left, right] = split_merge(merge);
    model.merges.push_back({number_of(left), number_of(right), number_of(left + right)});
  }
  return model;
}

}  // namespace

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  const Json file = parse_strict_json(MappedFile(path).text(), path.string());
  try {
    require_supported(file);
    return Tokenizer(to_model(file));
  } catch (const Json::exception& error) {
    fail(Fault::kData, path.string(), ": is not a well-formed tokenizer.json: ", error.what());
  } catch (const Error& error) {
    fail(error.fault(), path.string(), ": ", error.what());
  }
}

void Tokenizer::save(const std::filesystem::path& path) const {
  Json vocab = Json::object();
  for (std::int32_t number = 0; number < vocab_size(); ++number)
    if (number != model_.end_of_text) vocab[to_alphabet(model_.tokens[number])] = number;
  Json merges = Json::array();  // strings, which every version of the library reads
  for (const BpeMerge& merge : model_.merges)
    merges.push_back(to_alphabet(model_.tokens[merge.left]) + " " + to_alphabet(model_.tokens[merge.right]));
  Json model = model_settings();
  model["vocab"] = std::move(vocab);
  model["merges"] = std::move(merges);
  const Json file = {
      {"version", "1.0"},          {"truncation", nullptr},
      {"padding", nullptr},        {"added_tokens", Json::array({added_token(model_.end_of_text)})},
      {"normalizer", nullptr},     {"pre_tokenizer", pre_tokenizer()},
      {"post_processor", nullptr}, {"decoder", byte_level(true, true)},
      {"model", std::move(model)}};
  DurableFile out(path);
  out.write(file.dump(1) + "\n");
  out.commit();
}

}  // namespace takt
