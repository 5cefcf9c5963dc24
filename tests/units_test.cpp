// Quantities with units: what people write is understood or refused, and what is printed is short.
#include "core/base/units.h"

#include <gtest/gtest.h>

#include <array>

namespace takt {
namespace {

TEST(ParseBytes, UnderstandsDecimalAndBinaryUnits) {
  EXPECT_EQ(parse_bytes("4096"), 4096u);
  EXPECT_EQ(parse_bytes("0"), 0u);
  EXPECT_EQ(parse_bytes("64MiB"), 64u << 20);
  EXPECT_EQ(parse_bytes("64 MiB"), 64u << 20);
  EXPECT_EQ(parse_bytes("1.5GB"), 1500000000u);
  EXPECT_EQ(parse_bytes("3kB"), 3000u);
  EXPECT_EQ(parse_bytes("2TiB"), 2ull << 40);
}

TEST(ParseBytes, RefusesWhatIsNoSize) {
  for (const char* text : {"", "MiB", "64 mib", "64MiB each", "-1", "1e40", "x64", "nan", "inf", "64MB;"})
    EXPECT_FALSE(parse_bytes(text)) << text;
}

TEST(ParseDuration, UnderstandsSecondsToDays) {
  EXPECT_EQ(parse_duration_s("90s"), 90);
  EXPECT_EQ(parse_duration_s("0.5s"), 0.5);
  EXPECT_EQ(parse_duration_s("20m"), 1200);
  EXPECT_EQ(parse_duration_s("2h"), 7200);
  EXPECT_EQ(parse_duration_s("1d"), 86400);
}

TEST(ParseDuration, RefusesWhatIsNoDuration) {
  for (const char* text : {"", "90", "s", "-5s", "2 hours", "1h30m", "nan s", "inf s"})
    EXPECT_FALSE(parse_duration_s(text)) << text;
}

TEST(ParseQuantity, SplitsAmountAndUnit) {
  const auto quantity = parse_quantity("8192 tokens");
  ASSERT_TRUE(quantity);
  EXPECT_EQ(quantity->amount, 8192);
  EXPECT_EQ(quantity->unit, "tokens");
}

TEST(ParseQuantity, RefusesWhatIsNoQuantity) {
  for (const char* text :
       {"", "8192", "8192tokens", "8192 ", "tokens", "1.5 tokens", "99999999999999999999 tokens"})
    EXPECT_FALSE(parse_quantity(text)) << text;
}

TEST(Format, BytesInPowersOfThousand) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1500), "1.5 kB");
  EXPECT_EQ(format_bytes(999999), "1.0 MB");
  EXPECT_EQ(format_bytes(59000000), "59 MB");
  EXPECT_EQ(format_bytes(1500000000), "1.5 GB");
  EXPECT_EQ(format_bytes(24000000000), "24 GB");
  EXPECT_EQ(format_gib(429496730), "0.40 GiB");
}

TEST(Format, CountsWithTwoOrThreeDigits) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(15900), "15.9 k");
  EXPECT_EQ(format_count(4.2e6), "4.20 M");
  EXPECT_EQ(format_count(-2.5e9), "-2.50 G");
}

TEST(Format, DurationsAsClocks) {
  EXPECT_EQ(format_duration(0), "0:00");
  EXPECT_EQ(format_duration(-3), "0:00");
  EXPECT_EQ(format_duration(773), "12:53");
  EXPECT_EQ(format_duration(3723), "1:02:03");
  EXPECT_EQ(format_duration(3599.7), "1:00:00");
}

TEST(EditDistance, CountsInsertionsDeletionsAndSubstitutions) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("abc", ""), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("warmup", "warm_up"), 1u);
}

TEST(DidYouMean, OffersOnlyWhatIsClose) {
  const std::array<std::string_view, 3> known = {"weight_decay", "warmup", "lr"};
  EXPECT_EQ(did_you_mean("weigth_decay", known), "weight_decay");
  EXPECT_EQ(did_you_mean("warm_up", known), "warmup");
  EXPECT_EQ(did_you_mean("something_else", known), std::nullopt);
}

}  // namespace
}  // namespace takt
