// exact_squares: y = sum_i x[i]^2 as an integer in digits of 6 bits, of which digit d counts 2^(6 d - 298).
// digits_value: the number that such digits make, rounded to f32.
//
// A square of f32 is a whole multiple of 2^-298 below 2^256, so that the sum is exact: it does not depend on how x is cut
// nor on the order in which anything is added. Digits are whole numbers in f32, below 64 as exact_squares leaves them;
// sums of them are exact up to 2^24, which is for 266,000 summands (tensors times ranks). What is not finite makes digit 0
// NaN.
// Placement a sharded x gives partial sums, also where x is padded.
// Cost      about 8 FLOPs an element, one by one: several times what sum_squares takes.
// Source    the long accumulator of Kulisch 1971; f32 as digits, so that every backend can reduce it.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "core/ops/op.h"

namespace takt {
namespace {

constexpr int kDigitBits = 6, kLowestBit = -298;
constexpr std::int64_t kDigits = 100;  // 554 bits of a square, 40 for their number
constexpr int kExponents = 255;        // of finite f32, as they are stored

std::vector<TensorDesc> infer_squares(const OpArgs& args) {
  infer_elementwise(args);
  TAKT_REQUIRE(args.input(0).dtype == DType::kF32, "exact_squares '", args.name, "': x must be f32, got ",
               args.input(0));
  return {{{{"digit", kDigits}}, DType::kF32}};
}

using Digits = std::array<std::uint64_t, kDigits>;

// Adds `number` 2^(bit) to digits that may be larger than 6 bits.
void add_shifted(Digits& digits, std::uint64_t number, int bit) {
  for (auto d = static_cast<std::size_t>(bit / kDigitBits); number != 0; ++d, number >>= kDigitBits)
    digits.at(d) += (number & 63) << (bit % kDigitBits);
}

// All digits below 64.
void carry(Digits& digits) {
  for (std::size_t d = 0; d + 1 < digits.size(); ++d) {
    digits[d + 1] += digits[d] >> kDigitBits;
    digits[d] &= 63;
  }
}

// Squares of whole mantissas are counted by exponent, in 64 bits for as many as fit, and then put where they belong.
class SquareSum {
 public:
  void add(const float* x, std::int64_t num_elements) {
    constexpr std::int64_t kAtOnce = 1 << 16;  // squares are below 2^48
    for (std::int64_t first = 0; first < num_elements; first += kAtOnce) {
      const std::int64_t last = std::min(num_elements, first + kAtOnce);
      for (std::int64_t i = first; i < last; ++i) count(std::bit_cast<std::uint32_t>(x[i]));
      flush();
    }
  }
  void store(float* y) {
    std::copy(digits_.begin(), digits_.end(), y);
    if (!is_finite_) y[0] = std::numeric_limits<float>::quiet_NaN();
  }

 private:
  void count(std::uint32_t bits) {
    const std::uint32_t exponent = bits >> 23 & 255, fraction = bits & 0x7FFFFF;
    if (exponent == kExponents) {
      is_finite_ = false;
      return;
    }
    const std::uint64_t mantissa = fraction | (exponent > 0 ? 1u << 23 : 0u);
    by_exponent_[exponent] += mantissa * mantissa;
  }
  // A number with exponent e > 0 is mantissa 2^(e - 150), and e = 0 stands for 1.
  void flush() {
    for (int e = 0; e < kExponents; ++e) {
      if (by_exponent_[static_cast<std::size_t>(e)] == 0) continue;
      add_shifted(digits_, by_exponent_[static_cast<std::size_t>(e)], 2 * std::max(e, 1) - 2);
      by_exponent_[static_cast<std::size_t>(e)] = 0;
    }
    carry(digits_);
  }

  std::array<std::uint64_t, kExponents> by_exponent_ = {};
  Digits digits_ = {};
  bool is_finite_ = true;
};

Kernel cpu_squares(const KernelNode& node) {
  return [n = node.input(0).num_elements()](const KernelArgs& k) {
    SquareSum sum;
    sum.add(k.input<float>(0), n);
    sum.store(k.output<float>(0));
  };
}

// The digits of a double; the last bits of a sum of doubles are not the exact sum's.
void reference_squares(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (const double x : inputs[0]->data) {
    double rest = x * x;
    for (std::size_t d = kDigits; d-- > 0;) {
      const double unit = std::ldexp(1.0, kDigitBits * static_cast<int>(d) + kLowestBit);
      const double digit = std::floor(rest / unit);
      outputs[0].data[d] += digit;
      rest -= digit * unit;
    }
  }
}

std::vector<TensorDesc> infer_value(const OpArgs& args) {
  TAKT_REQUIRE((args.input(0).dims == Dims{{"digit", kDigits}}), "digits_value '", args.name,
               "': wants what exact_squares makes, got ", args.input(0));
  return {{{}, args.input(0).dtype}};
}

void reference_value(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (std::size_t d = kDigits; d-- > 0;)
    outputs[0].data[0] += inputs[0]->data[d] * std::ldexp(1.0, kDigitBits * static_cast<int>(d) + kLowestBit);
}

// Sums of digits are carried first: then equal numbers have equal digits, and are rounded alike.
Kernel cpu_value(const KernelNode&) {
  return [](const KernelArgs& k) {
    const float* x = k.input<float>(0);
    const bool is_finite = std::all_of(x, x + kDigits, [](float digit) { return std::isfinite(digit); });
    Digits digits = {};
    double value = is_finite ? 0 : std::numeric_limits<double>::quiet_NaN();
    if (is_finite) std::copy_n(x, kDigits, digits.begin());
    carry(digits);
    for (std::size_t d = kDigits; d-- > 0;)
      value +=
          static_cast<double>(digits[d]) * std::ldexp(1.0, kDigitBits * static_cast<int>(d) + kLowestBit);
    k.output<float>(0)[0] = static_cast<float>(value);
  };
}

}  // namespace

const OpDef& exact_squares_op() {
  static const OpDef op = {.name = "exact_squares",
                           .infer = infer_squares,
                           .flops_per_element = 8,
                           .placement = {.whole = {"digit"}},
                           .reference = reference_squares,
                           .cpu = {.prepare = cpu_squares}};
  return op;
}

const OpDef& digits_value_op() {
  static const OpDef op = {.name = "digits_value",
                           .infer = infer_value,
                           .flops_per_element = 2,
                           .placement = {.whole = {"digit"}},
                           .reference = reference_value,
                           .cpu = {.prepare = cpu_value}};
  return op;
}

ValueId exact_squares(Graph& graph, ValueId x, const std::string& name) {
  return graph.append_one(exact_squares_op(), {x}, {}, name);
}

ValueId digits_value(Graph& graph, ValueId digits, const std::string& name) {
  return graph.append_one(digits_value_op(), {digits}, {}, name);
}

}  // namespace takt
