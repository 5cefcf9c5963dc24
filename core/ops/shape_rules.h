// Shape rules, and questions about axes and dtypes, that several ops share. All throw kConfig.
#pragma once

#include <vector>

#include "core/graph/op.h"

namespace takt {

// One output like the inputs, which must all be alike.
std::vector<TensorDesc> infer_alike(const OpArgs& args);
// The same for floating inputs, with an output for each input but the last: what an op of one or two inputs gives, and its
// gradient, whose last input is dy.
std::vector<TensorDesc> infer_elementwise(const OpArgs& args);
// One f32 output with the axes of attribute "dims".
std::vector<TensorDesc> infer_dims(const OpArgs& args);

// Attribute "out_dtype": f32 or that of input 0, which is the default.
DType out_dtype(const OpArgs& args);

bool contains(const AxisNames& names, const Axis& name);
AxisNames names_of(const Dims& dims);
// The axes of `dims` that `others` has not, in order.
AxisNames axes_without(const Dims& dims, const Dims& others);

// A tensor seen as [outer, middle, inner] elements.
struct Split {
  std::int64_t outer = 1, middle = 1, inner = 1;
};
// The axes `middle` must stand side by side in `dims`.
Split split_around(const OpArgs& args, const Dims& dims, const AxisNames& middle);

}  // namespace takt
