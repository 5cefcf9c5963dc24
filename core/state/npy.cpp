// The header is text in Python's syntax. It is read by a grammar that takes what NumPy writes, and no more:
// no expression is evaluated, and no element is an object.
#include "core/state/npy.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <string_view>

#include "core/base/error.h"
#include "core/state/durable_file.h"
#include "core/state/region.h"

namespace takt {
namespace {

static_assert(std::endian::native == std::endian::little,
              "npy elements are little endian and copied as they are");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kVersionEnd = kMagic.size() + 2;
constexpr std::size_t kMaxHeaderBytes = std::size_t{64} << 10;
constexpr std::size_t kMostDims = 8;
constexpr std::size_t kAlignment = 64;
constexpr std::size_t kMaxDigits = 18;  // of an extent: less than 2^63

std::string_view descr_of(DType dtype) {
  if (dtype == DType::kF32) return "<f4";
  if (dtype == DType::kF64) return "<f8";
  if (dtype == DType::kI32) return "<i4";
  fail(Fault::kBug, "npy: ", dtype, " has no element type there");
}

// Reads the dictionary from its first character to its end.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& file_name) : rest_(text), file_name_(file_name) {}

  NpyHeader parse() {
    NpyHeader header;
    bool has_descr = false, has_order = false, has_shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string_view key = quoted();
      expect(':');
      bool& seen = key == "descr"           ? has_descr
                   : key == "fortran_order" ? has_order
                   : key == "shape"         ? has_shape
                                            : refuse_key(key);
      if (seen) refuse("has the key '", key, "' twice");
      seen = true;
      if (&seen == &has_descr) header.dtype = parse_dtype();
      if (&seen == &has_order) parse_order();
      if (&seen == &has_shape) header.shape = parse_shape();
      if (!accept(',') && !is_next('}')) refuse("wanted , or } at '", excerpt(), "'");
    }
    if (rest_ != "\n") refuse("goes on after the dictionary, or does not end in a newline");
    if (!has_descr || !has_order || !has_shape) refuse("wanted the keys descr, fortran_order and shape");
    return header;
  }

 private:
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(Fault::kData, file_name_, ": its npy header ", parts...);
  }
  [[noreturn]] bool& refuse_key(std::string_view key) const { refuse("has the unknown key '", key, "'"); }
  std::string_view excerpt() const { return rest_.substr(0, 16); }

  void skip_spaces() {
    while (rest_.starts_with(' ')) rest_.remove_prefix(1);
  }
  bool is_next(char c) {
    skip_spaces();
    return rest_.starts_with(c);
  }
  // Skips the spaces after it too, so that what is left of a whole header is its newline.
  bool accept(char c) {
    if (!is_next(c)) return false;
    rest_.remove_prefix(1);
    skip_spaces();
    return true;
  }
  void expect(char c) {
    if (!accept(c)) refuse("wanted ", c, " at '", excerpt(), "'");
  }

  std::string_view quoted() {
    skip_spaces();
    const char quote = rest_.empty() ? '\0' : rest_.front();
    const std::size_t end = rest_.find(quote, 1);
    if ((quote != '\'' && quote != '"') || end == std::string_view::npos)
      refuse("wanted a text in quotes at '", excerpt(), "'");
    const std::string_view text = rest_.substr(1, end - 1);
    rest_.remove_prefix(end + 1);
    return text;
  }

  DType parse_dtype() {
    if (is_next('[')) refuse("describes a record, wanted an array of numbers");
    const std::string_view descr = quoted();
    for (const DType dtype : {DType::kF32, DType::kF64, DType::kI32})
      if (descr == descr_of(dtype)) return dtype;
    refuse("says elements of type '", descr,
           "', wanted '<f4', '<f8' or '<i4'\n  convert the array, for example with numpy: a.astype('<f4')");
  }

  void parse_order() {
    skip_spaces();
    if (rest_.starts_with("True"))
      refuse("says Fortran order, wanted rows one after another",
             "\n  convert the array with numpy: np.ascontiguousarray(a)");
    if (!rest_.starts_with("False")) refuse("wanted True or False at '", excerpt(), "'");
    rest_.remove_prefix(std::string_view("False").size());
  }

  std::int64_t parse_extent() {
    skip_spaces();
    const std::size_t end = std::min(rest_.find_first_not_of("0123456789"), rest_.size());
    if (end == 0 || end > kMaxDigits || (end > 1 && rest_.front() == '0'))
      refuse("wanted an extent below 10^18 at '", excerpt(), "'");
    std::int64_t extent = 0;
    for (const char digit : rest_.substr(0, end)) extent = 10 * extent + (digit - '0');
    rest_.remove_prefix(end);
    return extent;
  }

  // (), (n,), (n, m), (n, m,): a tuple of one needs its comma.
  std::vector<std::int64_t> parse_shape() {
    std::vector<std::int64_t> shape;
    expect('(');
    bool has_comma = true;
    while (!accept(')')) {
      if (!has_comma) refuse("wanted , or ) at '", excerpt(), "'");
      if (shape.size() == kMostDims) refuse("has more than ", kMostDims, " dimensions");
      shape.push_back(parse_extent());
      has_comma = accept(',');
    }
    if (shape.size() == 1 && !has_comma) refuse("has a shape that is no tuple");
    return shape;
  }

  std::string_view rest_;
  const std::string& file_name_;
};

// The text of the header, whose length field has 2 or 4 bytes.
std::string_view header_text(std::span<const std::byte> file, const std::string& file_name) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  if (!text.starts_with(kMagic) || file.size() < kVersionEnd)
    fail(Fault::kData, file_name, ": is not an npy file, it does not begin with \\x93NUMPY");
  const auto major = static_cast<int>(file[kMagic.size()]), minor = static_cast<int>(file[kMagic.size() + 1]);
  if (major < 1 || major > 3 || minor != 0)
    fail(Fault::kData, file_name, ": has npy version ", major, ".", minor, ", wanted 1.0, 2.0 or 3.0");
  const std::size_t length_bytes = major == 1 ? 2 : 4, begin = kVersionEnd + length_bytes;
  std::uint32_t num_header_bytes = 0;
  if (file.size() >= begin) std::memcpy(&num_header_bytes, file.data() + kVersionEnd, length_bytes);
  if (file.size() < begin || num_header_bytes > file.size() - begin || num_header_bytes > kMaxHeaderBytes)
    fail(Fault::kData, file_name, ": says its npy header has ", num_header_bytes, " bytes, in a file of ",
         file.size());
  return text.substr(begin, num_header_bytes);
}

}  // namespace

NpyHeader parse_npy(std::span<const std::byte> file, const std::string& file_name) {
  const std::string_view text = header_text(file, file_name);
  NpyHeader header = HeaderParser(text, file_name).parse();
  header.data_offset =
      static_cast<std::size_t>(text.data() + text.size() - reinterpret_cast<const char*>(file.data()));
  std::vector<std::int64_t> factors = header.shape;
  factors.push_back(static_cast<std::int64_t>(num_bytes(header.dtype)));
  const std::optional<std::int64_t> wanted = checked_volume(factors);
  const std::size_t found = file.size() - header.data_offset;
  if (!wanted || static_cast<std::size_t>(*wanted) != found)
    fail(Fault::kData, file_name, ": has ", found, " bytes of elements, its header says ",
         wanted ? std::to_string(*wanted) : "more than 2^63",
         "\n  it is cut short or was written to in place: copy or make it again");
  if (header.data_offset % num_bytes(header.dtype) != 0)
    fail(Fault::kData, file_name, ": its elements begin at byte ", header.data_offset,
         ", which does not align them");
  return header;
}

NpyFile::NpyFile(const std::filesystem::path& path)
    : path_(path), file_(path), header_(parse_npy(file_.bytes(), path.string())) {}

std::string npy_header(DType dtype, std::span<const std::int64_t> shape) {
  TAKT_ASSERT(shape.size() <= kMostDims && checked_volume(shape), "npy: a shape that cannot be stored");
  std::string dictionary = concat("{'descr': '", descr_of(dtype), "', 'fortran_order': False, 'shape': (");
  for (std::size_t d = 0; d < shape.size(); ++d) dictionary += concat(d == 0 ? "" : " ", shape[d], ",");
  if (shape.size() > 1) dictionary.pop_back();
  dictionary += "), }";
  const std::size_t begin = kVersionEnd + 2;
  const std::size_t end = (begin + dictionary.size() + 1 + kAlignment - 1) / kAlignment * kAlignment;
  dictionary.resize(end - begin - 1, ' ');
  dictionary += '\n';
  const auto num_header_bytes = static_cast<std::uint16_t>(dictionary.size());
  std::string header = std::string(kMagic) + '\1' + '\0';
  header.append(reinterpret_cast<const char*>(&num_header_bytes), sizeof(num_header_bytes));
  return header + dictionary;
}

void write_npy(const std::filesystem::path& path, DType dtype, std::span<const std::int64_t> shape,
               std::span<const std::byte> elements) {
  const std::string header = npy_header(dtype, shape);
  TAKT_ASSERT(elements.size() == static_cast<std::size_t>(volume(shape)) * num_bytes(dtype), path.string(),
              ": ", elements.size(), " bytes for an array of ", volume(shape), " elements");
  DurableFile file(path);
  file.write(header);
  file.write(elements.data(), elements.size());
  file.commit();
}

}  // namespace takt
