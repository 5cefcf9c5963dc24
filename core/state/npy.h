// Npy: the file format of NumPy for one array, read strictly and written.
//
// A file is: "\x93NUMPY", version (major, minor), header length (u16 in version 1, u32 in 2 and 3, little
// endian), header, elements. The header is a Python dictionary
// {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }, padded with spaces and ended by a newline.
// Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "core/base/tensor.h"
#include "core/state/mapped_file.h"

namespace takt {

struct NpyHeader {
  DType dtype = DType::kF32;        // kF32, kF64 or kI32, little endian
  std::vector<std::int64_t> shape;  // row-major
  std::size_t data_offset = 0;      // bytes
};

// Reads the header of a whole file held in memory. Refuses, as kData naming `file_name` and the reason: other
// element types, Fortran order, more than 8 dimensions, a header over 64 KiB or written in another way than
// NumPy's, products that overflow, and elements that are not exactly the rest of the file.
NpyHeader parse_npy(std::span<const std::byte> file, const std::string& file_name);

// A mapped file. Its pages are read when they are touched.
class NpyFile {
 public:
  explicit NpyFile(const std::filesystem::path& path);
  const std::filesystem::path& path() const { return path_; }
  DType dtype() const { return header_.dtype; }
  std::span<const std::int64_t> shape() const { return header_.shape; }
  std::span<const std::byte> elements() const { return file_.bytes().subspan(header_.data_offset); }

 private:
  std::filesystem::path path_;
  MappedFile file_;
  NpyHeader header_;
};

// The bytes of a header that NumPy reads: version 1, elements aligned to 64 bytes.
std::string npy_header(DType dtype, std::span<const std::int64_t> shape);

// Written whole or not at all. `elements` are row-major. Throws kIo where the file cannot be written.
void write_npy(const std::filesystem::path& path, DType dtype, std::span<const std::int64_t> shape,
               std::span<const std::byte> elements);

}  // namespace takt
