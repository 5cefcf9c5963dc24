// Messages name the node, not the op, which the shape rules here do not know.
#include "core/ops/shape_rules.h"

#include <algorithm>

namespace takt {

std::vector<TensorDesc> infer_alike(const OpArgs& args) {
  for (const TensorDesc& input : args.inputs)
    TAKT_REQUIRE(input == args.input(0), "node '", args.name, "': inputs must be alike, got ", args.input(0),
                 " and ", input);
  return {args.input(0)};
}

std::vector<TensorDesc> infer_elementwise(const OpArgs& args) {
  TAKT_REQUIRE(is_floating(args.input(0).dtype), "node '", args.name, "': x must be floating, got ",
               args.input(0));
  infer_alike(args);
  return std::vector<TensorDesc>(std::max<std::size_t>(2, args.inputs.size()) - 1, args.input(0));
}

std::vector<TensorDesc> infer_dims(const OpArgs& args) {
  return {{args.attrs.dims("dims"), DType::kF32}};
}

DType out_dtype(const OpArgs& args) {
  if (!args.attrs.has("out_dtype")) return args.input(0).dtype;
  const DType dtype = args.attrs.dtype("out_dtype");
  TAKT_REQUIRE(dtype == args.input(0).dtype || dtype == DType::kF32, "node '", args.name, "': out_dtype is ",
               dtype, ", wanted f32 or that of input 0, ", args.input(0));
  return dtype;
}

bool contains(const AxisNames& names, const Axis& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

AxisNames names_of(const Dims& dims) {
  return axes_without(dims, {});
}

AxisNames axes_without(const Dims& dims, const Dims& others) {
  AxisNames names;
  for (const Dim& dim : dims)
    if (find_axis(others, dim.axis) < 0) names.push_back(dim.axis);
  return names;
}

Split split_around(const OpArgs& args, const Dims& dims, const AxisNames& middle) {
  Split split;
  int changes = 0;
  bool inside = false;
  for (const Dim& dim : dims) {
    const bool now = contains(middle, dim.axis);
    if (now != inside) ++changes;
    inside = now;
    (now ? split.middle : changes == 0 ? split.outer : split.inner) *= dim.extent;
  }
  TAKT_REQUIRE(changes <= 2, "node '", args.name, "': of ", to_string(dims),
               " it takes axes that do not stand ", "side by side");
  return split;
}

}  // namespace takt
