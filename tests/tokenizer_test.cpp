// The tokenizer: what it encodes comes back, it encodes as the Hugging Face library does from the same file,
// and files that would encode differently there are refused.
#include "core/state/tokenizer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "core/base/error.h"
#include "core/state/bpe_trainer.h"
#include "core/state/build_dataset.h"
#include "core/state/pretokenizer.h"
#include "core/state/token_dataset.h"
#include "core/state/utf8.h"

namespace takt {
namespace {

using Tokens = std::vector<std::int32_t>;

const std::string& training_text() {
  static const std::string text = [] {
    std::string repeated;
    for (int i = 0; i < 4; ++i)
      repeated +=
          "In the beginning God created the heaven and the earth.\nAnd the earth was without form, and "
          "void; " +
          std::to_string(1234 + i) + " caf\u00e9 \u65e5\u672c\u8a9e\n";
    return repeated;
  }();
  return text;
}

const Tokenizer& small_tokenizer() {
  static const Tokenizer tokenizer = train_bpe(training_text(), 320);
  return tokenizer;
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for_each_word(
      text, [&](std::string_view word) { words.emplace_back(word); }, [&] { words.emplace_back("END"); });
  return words;
}

class TokenizerFile : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) /
              ("takt_tokenizer_" + std::to_string(::getpid()) + "_" +
               testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
    path_ = folder_ / "tokenizer.json";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string saved() const {
    small_tokenizer().save(path_);
    std::ostringstream text;
    text << std::ifstream(path_).rdbuf();
    return text.str();
  }

  void write(const std::string& name, std::string_view text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }

  // The saved file with the first `from` replaced by `to`.
  void save_changed(const std::string& from, const std::string& to) const {
    std::string text = saved();
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    write("tokenizer.json", text.replace(at, from.size(), to));
  }

  // The message with which the file is refused; it must be a fault of the data and name the file.
  std::string refusal() const {
    try {
      Tokenizer::load(path_);
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::kData) << error.what();
      EXPECT_NE(std::string(error.what()).find("tokenizer.json"), std::string::npos) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "the file was loaded";
    return "";
  }

  std::filesystem::path folder_, path_;
};

TEST(Pretokenizer, CutsAsItsRegularExpressionSays) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(words_of("the  cat\n\n sat"), (Words{"the", " ", " cat", "\n\n", " sat"}));
  EXPECT_EQ(words_of("a\n\nb"), (Words{"a", "\n", "\n", "b"}));
  EXPECT_EQ(words_of(" 12345 6"), (Words{" 123", "45", " 6"}));
  EXPECT_EQ(words_of("x!?. (y) "), (Words{"x", "!?.", " (", "y", ")", " "}));
  EXPECT_EQ(words_of("caf\u00e9s \u65e5\u672c1"), (Words{"caf\u00e9s", " \u65e5\u672c", "1"}));
  EXPECT_EQ(words_of("a<|endoftext|> b"), (Words{"a", "END", " b"}));
  EXPECT_EQ(words_of(std::string_view("\0\x01 \x7f", 4)), (Words{std::string("\0\x01", 2), " \x7f"}));
  EXPECT_TRUE(words_of("").empty());
}

TEST(Pretokenizer, LosesNoByte) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 50; ++trial) {
    std::string text, joined;
    for (int i = 0; i < 400; ++i)
      text += static_cast<char>(trial % 2 ? random() % 256 : " \nab1.\xc3"[random() % 7]);
    for (const std::string& word : words_of(text)) joined += word;
    EXPECT_EQ(joined, text);
  }
}

TEST(Tokenizer, GivesBackAnyBytes) {
  std::mt19937 random(2);
  std::string noise;
  for (int i = 0; i < 20000; ++i) noise += static_cast<char>(random() % 256);
  for (const std::string& text :
       {std::string(), noise, training_text(), std::string(5000, 'a'), std::string(3000, ' ') + "x",
        std::string("\0\r\n\t \xf0\x9f\x98\x80 <|endoftext|>", 24),
        std::string("<|endoftext|><|endoftext|>")})
    EXPECT_EQ(small_tokenizer().decode(small_tokenizer().encode(text)), text);
}

// Expected: tokenizers 0.23.3 from PyPI, on the file that save() writes.
TEST(Tokenizer, EncodesAsTheHuggingFaceLibrary) {
  EXPECT_EQ(
      small_tokenizer().encode(
          "And the  heavens\twere 98765 caf\u00e9s,\n\n\u65e5\u672c\u8a9e\U0001F600 <|endoftext|>the earth."),
      (Tokens{277, 259, 32, 310, 115, 9,   119, 101, 114, 101, 32,  57, 56,  55,  54,  53,  315,
              115, 44,  10, 10,  230, 294, 314, 240, 159, 152, 128, 32, 319, 256, 101, 268, 46}));
}

TEST(Tokenizer, CountsTheBytesOfItsTokens) {
  std::int64_t num_bytes = 0;
  for (const std::int32_t token : small_tokenizer().encode(training_text()))
    num_bytes += small_tokenizer().num_bytes(token);
  EXPECT_EQ(num_bytes, static_cast<std::int64_t>(training_text().size()));
  EXPECT_EQ(small_tokenizer().num_bytes(*small_tokenizer().end_of_text()), 13);
}

TEST(Tokenizer, RefusesTokensOutsideTheVocabulary) {
  for (const std::int32_t token : {-1, 320}) {
    EXPECT_THROW(small_tokenizer().decode(Tokens{token}), Error);
    EXPECT_THROW(small_tokenizer().num_bytes(token), Error);
  }
}

TEST(Tokenizer, AppliesEarlierMergesFirstAndThenFromTheLeft) {
  BpeModel model;
  for (int byte = 0; byte < 256; ++byte) model.tokens.emplace_back(1, static_cast<char>(byte));
  for (const char* token : {"bc", "ab", "aa", "<|endoftext|>"}) model.tokens.emplace_back(token);
  model.merges = {{'b', 'c', 256}, {'a', 'b', 257}, {'a', 'a', 258}};
  model.end_of_text = 259;
  const Tokenizer tokenizer(model);
  EXPECT_EQ(tokenizer.encode("abc"), (Tokens{'a', 256}));
  EXPECT_EQ(tokenizer.encode("aaa"), (Tokens{258, 'a'}));
  EXPECT_EQ(tokenizer.encode("aab"), (Tokens{'a', 257}));
}

TEST(BpeTrainer, HasTheVocabularyAskedFor) {
  EXPECT_EQ(small_tokenizer().vocab_size(), 320);
  EXPECT_EQ(small_tokenizer().end_of_text(), 319);
  EXPECT_EQ(train_bpe("", 257).vocab_size(), 257);
}

TEST(BpeTrainer, MergesTheMostFrequentPairAndOfEqualOnesTheLowest) {
  EXPECT_EQ(train_bpe("xy xy xy ab ab", 258).encode("xyab"), (Tokens{256, 'a', 'b'}));
  EXPECT_EQ(train_bpe("ba.ba.ab.ab.", 258).encode("ab.ba"), (Tokens{256, '.', 'b', 'a'}));
}

TEST(BpeTrainer, IsDeterministic) {
  EXPECT_EQ(train_bpe(training_text(), 300).encode(training_text()),
            train_bpe(training_text(), 300).encode(training_text()));
}

TEST(BpeTrainer, LearnsFromTextWithoutSpaces) {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "abcd";
  EXPECT_LT(train_bpe(text, 262).encode(text).size(), text.size() / 8);
}

TEST(BpeTrainer, SaysWhenTheTextIsTooSmallForTheVocabulary) {
  try {
    train_bpe("the cat the cat", 5000);
    FAIL() << "5000 tokens from 15 bytes";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kData);
    EXPECT_NE(std::string(error.what()).find("a vocabulary of at most 262"), std::string::npos)
        << error.what();
  }
  EXPECT_THROW(train_bpe("text", 256), Error);
}

TEST_F(TokenizerFile, LoadsAsItWasSaved) {
  small_tokenizer().save(path_);
  const Tokenizer loaded = Tokenizer::load(path_);
  EXPECT_EQ(loaded.vocab_size(), small_tokenizer().vocab_size());
  EXPECT_EQ(loaded.end_of_text(), small_tokenizer().end_of_text());
  const std::string text = training_text() + "unseen words\r\n\t<|endoftext|>\xff";
  EXPECT_EQ(loaded.encode(text), small_tokenizer().encode(text));
}

TEST_F(TokenizerFile, LoadsMergesThatAreWrittenAsPairs) {
  save_changed("\"t h\"", "[\"t\", \"h\"]");
  EXPECT_EQ(Tokenizer::load(path_).encode(training_text()), small_tokenizer().encode(training_text()));
}

TEST_F(TokenizerFile, RefusesMissingAndMalformedFiles) {
  EXPECT_NE(refusal().find("no such file"), std::string::npos);
  const std::string whole = saved();
  for (const std::string& text : {std::string(), std::string("garbage"), std::string("[]"),
                                  std::string("{\"model\": 3}"), whole.substr(0, whole.size() / 2)}) {
    write("tokenizer.json", text);
    refusal();
  }
}

TEST_F(TokenizerFile, RefusesOtherKindsOfTokenizer) {
  const std::vector<std::pair<std::string, std::string>> changes = {
      {"\"BPE\"", "\"WordPiece\""},
      {"\"normalizer\": null", "\"normalizer\": {\"type\": \"NFC\"}"},
      {"\"behavior\": \"Isolated\"", "\"behavior\": \"Removed\""},
      {"[0-9]{1,3}", "[0-9]{1,2}"},
      {"\"byte_fallback\": false", "\"byte_fallback\": true"},
      {"\"dropout\": null", "\"dropout\": 0.1"},
      {"\"ignore_merges\": false", "\"ignore_merges\": true"},
      {"\"lstrip\": false", "\"lstrip\": true"},
      {"\"post_processor\": null", "\"post_processor\": {\"type\": \"TemplateProcessing\"}"},
      {"\"type\": \"Sequence\"", "\"type\": \"ByteLevel\""},
      {"\"use_regex\": false", "\"use_regex\": true"},
      {"\"use_regex\": false", "\"unused\": 0"},  // absent, it is on
      {"\"pretokenizers\": [", "\"pretokenizers\": [{\"type\": \"Digits\"}, "}};
  for (const auto& [from, to] : changes) {
    save_changed(from, to);
    EXPECT_NE(refusal().find("supported: byte-level BPE"), std::string::npos) << to;
  }
}

TEST_F(TokenizerFile, RefusesAVocabularyThatDoesNotHoldTogether) {
  const std::vector<std::pair<std::string, std::string>> changes = {
      {"\"t h\"", "\"t h\", \"t h\""},       // a merge twice
      {"\"t h\"", "\"t zzz\""},              // of no token
      {"\"t h\"", "\"t q\""},                // into no token
      {"\"t h\"", "\"th\""},                 // of one token
      {"\"th\": ", "\"th\": 1"},             // a number beyond the vocabulary
      {"\"A\": 65", "\"A\": 66"},            // a number twice
      {"\"A\": 65", "\"\u65e5\": 65"},       // no byte-level character, and no token for A
      {"\"A\": 65", "\"ABC\": 65"},          // no token for A
      {"\"A\": 65", "\"A\": \"65\""},        // no number
      {"\"A\": 65", "\"A\": 65, \"A\": 65"}  // a key twice
  };
  for (const auto& [from, to] : changes) {
    save_changed(from, to);
    refusal();
  }
}

TEST(Utf8, FindsTheFirstInvalidByte) {
  EXPECT_FALSE(find_invalid_utf8("plain, caf\u00e9, \u65e5\u672c\u8a9e, \U0001F600, \U0010FFFF"));
  EXPECT_EQ(find_invalid_utf8("ab\xff"), 2u);
  EXPECT_EQ(find_invalid_utf8("a\xc3"), 1u);             // cut short
  EXPECT_EQ(find_invalid_utf8("\xc0\x80"), 0u);          // overlong
  EXPECT_EQ(find_invalid_utf8("\xe0\x80\x80"), 0u);      // overlong
  EXPECT_EQ(find_invalid_utf8("\xed\xa0\x80"), 0u);      // a surrogate
  EXPECT_EQ(find_invalid_utf8("\xf4\x90\x80\x80"), 0u);  // above U+10FFFF
}

class BuildDataset : public TokenizerFile {
 protected:
  BuildDatasetOptions options() const {
    BuildDatasetOptions options;
    options.texts = {folder_ / "text.txt"};
    options.prefix = folder_ / "out" / "small";
    options.vocab_size = 300;
    options.valid_fraction = 0.2;
    return options;
  }
  Fault fault_of(const BuildDatasetOptions& options) const {
    try {
      build_dataset(options);
    } catch (const Error& error) {
      return error.fault();
    }
    return Fault{0};
  }
};

TEST_F(BuildDataset, SplitsAtALineAndKeepsEveryByte) {
  write("text.txt", training_text());
  for (const TokenLayout layout : {TokenLayout::kLlmc, TokenLayout::kMegatron}) {
    BuildDatasetOptions wanted = options();
    wanted.layout = layout;
    wanted.overwrite = layout == TokenLayout::kMegatron;
    const BuildDatasetReport report = build_dataset(wanted);
    const Tokenizer tokenizer = Tokenizer::load(report.tokenizer);
    EXPECT_EQ(report.vocab_size, 300);
    std::string joined;
    for (const SplitReport& split : {report.train, report.valid}) {
      const TokenDataset dataset = TokenDataset::open({&split.path, 1}, report.vocab_size);
      EXPECT_EQ(dataset.num_tokens(), split.num_tokens);
      Tokens tokens(static_cast<std::size_t>(split.num_tokens) - 1), targets(tokens.size());
      dataset.sample(0, split.num_tokens - 1, tokens.data(), targets.data());
      tokens.push_back(targets.back());
      const std::string text = tokenizer.decode(tokens);
      EXPECT_EQ(static_cast<std::int64_t>(text.size()), split.num_bytes);
      EXPECT_GT(split.bytes_per_token(), 1.0);
      EXPECT_EQ(text.back(), '\n');
      joined += text;
    }
    EXPECT_EQ(joined, training_text());
  }
}

TEST_F(BuildDataset, ReadsAllTextsInOrderEachOnALineOfItsOwn) {
  write("first.txt", "no newline at the end");
  write("second.txt", training_text());
  small_tokenizer().save(path_);
  BuildDatasetOptions wanted = options();
  wanted.texts = {folder_ / "first.txt", folder_ / "second.txt"};
  wanted.tokenizer = path_;
  wanted.valid_fraction = 0;
  const BuildDatasetReport report = build_dataset(wanted);
  const TokenDataset dataset = TokenDataset::open({&report.train.path, 1}, report.vocab_size);
  Tokens tokens(static_cast<std::size_t>(report.train.num_tokens) - 1), targets(tokens.size());
  dataset.sample(0, report.train.num_tokens - 1, tokens.data(), targets.data());
  tokens.push_back(targets.back());
  EXPECT_EQ(small_tokenizer().decode(tokens), "no newline at the end\n" + training_text());
  wanted.texts.push_back(folder_ / "absent.txt");
  wanted.overwrite = true;
  EXPECT_EQ(fault_of(wanted), Fault::kData);
}

TEST_F(BuildDataset, TakesAnExistingTokenizerAndNoValidation) {
  write("text.txt", training_text());
  small_tokenizer().save(path_);
  BuildDatasetOptions wanted = options();
  wanted.tokenizer = path_;
  wanted.valid_fraction = 0;
  const BuildDatasetReport report = build_dataset(wanted);
  EXPECT_EQ(report.vocab_size, small_tokenizer().vocab_size());
  EXPECT_EQ(report.train.num_bytes, static_cast<std::int64_t>(training_text().size()));
  EXPECT_TRUE(report.valid.path.empty());
  EXPECT_EQ(report.valid.bytes_per_token(), 0);
}

TEST_F(BuildDataset, RefusesWhatItCannotDo) {
  EXPECT_EQ(fault_of(options()), Fault::kData);  // no text
  write("text.txt", "");
  EXPECT_EQ(fault_of(options()), Fault::kData);
  write("text.txt", "line\n\xff\n");
  EXPECT_EQ(fault_of(options()), Fault::kData);
  write("text.txt", "only one line, in which nothing can be split off\n");
  EXPECT_EQ(fault_of(options()), Fault::kData);
  write("text.txt", training_text());
  BuildDatasetOptions wrong = options();
  wrong.valid_fraction = 1.5;
  EXPECT_EQ(fault_of(wrong), Fault::kUsage);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));  // nothing was written on the way
  build_dataset(options());
  EXPECT_EQ(fault_of(options()), Fault::kUsage);  // exists
}

}  // namespace
}  // namespace takt
