// Tensor descriptions: sizes, look-ups and their printed form.
#include "core/base/tensor.h"

#include <ostream>

#include "core/base/error.h"

namespace takt {

std::size_t num_bytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 4;
    case DType::kF64:
      return 8;
    case DType::kBF16:
      return 2;
    case DType::kI32:
      return 4;
    case DType::kU8:
      return 1;
  }
  fail(Fault::kBug, "num_bytes: unknown dtype");
}

std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kF64:
      return "f64";
    case DType::kBF16:
      return "bf16";
    case DType::kI32:
      return "i32";
    case DType::kU8:
      return "u8";
  }
  fail(Fault::kBug, "name_of: unknown dtype");
}

bool is_floating(DType dtype) {
  return dtype != DType::kI32 && dtype != DType::kU8;
}

std::ostream& operator<<(std::ostream& out, DType dtype) {
  return out << name_of(dtype);
}

std::int64_t num_elements(const Dims& dims) {
  std::int64_t product = 1;
  for (const Dim& dim : dims) product *= dim.extent;
  return product;
}

int find_axis(const Dims& dims, const Axis& axis) {
  for (std::size_t i = 0; i < dims.size(); ++i)
    if (dims[i].axis == axis) return static_cast<int>(i);
  return -1;
}

std::string to_string(const Dims& dims) {
  std::string text = "[";
  for (const Dim& dim : dims) {
    if (text.size() > 1) text += ", ";
    text += dim.axis + "=" + std::to_string(dim.extent);
  }
  return text + "]";
}

std::int64_t TensorDesc::extent(const Axis& axis) const {
  const int i = find_axis(dims, axis);
  TAKT_ASSERT(i >= 0, "no axis '", axis, "' in ", to_string(dims));
  return dims[static_cast<std::size_t>(i)].extent;
}

std::string to_string(const TensorDesc& desc) {
  return std::string(name_of(desc.dtype)) + to_string(desc.dims);
}

std::ostream& operator<<(std::ostream& out, const TensorDesc& desc) {
  return out << to_string(desc);
}

}  // namespace takt
