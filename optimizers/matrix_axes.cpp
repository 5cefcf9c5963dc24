// A matrix is what a product makes of a parameter: the axes it sums over are one side, the axes it leaves the other, so
// that a weight [heads, head_dim, embed] is a matrix of heads head_dim times embed. An axis along which the result is taken
// apart again (query, key and value of one product) separates matrices that lie side by side.
#include "optimizers/matrix_axes.h"

#include <vector>

#include "core/ops/builders.h"
#include "core/ops/shape_rules.h"

namespace takt {
namespace {

struct Use {
  NodeId node;
  ValueId read;  // the parameter or its copy in another dtype
};

void add_forward_uses(const Graph& model, const Users& readers, ValueId value, std::vector<Use>& uses) {
  for (const NodeId reader : readers.of(value)) {
    const Node& node = model.node(reader);
    if (node.op == &cast_op())
      add_forward_uses(model, readers, node.outputs[0], uses);
    else if (node.tag.phase == Phase::kForward)
      uses.push_back({reader, value});
  }
}

bool is_factor_in_layer(const Graph& model, const Use& use) {
  const Node& node = model.node(use.node);
  return node.op == &matmul_op() && node.tag.block >= 0 &&
         (node.inputs[0] == use.read || node.inputs[1] == use.read);
}

// The axes along which the result of the product is taken apart.
AxisNames axes_taken_apart(const Node& product, const Graph& model, const Users& readers) {
  AxisNames axes;
  for (const NodeId reader : readers.of(product.outputs[0]))
    if (model.node(reader).op == &unstack_op()) axes.push_back(model.node(reader).attrs.axis("axis"));
  return axes;
}

}  // namespace

std::optional<MatrixAxes> hidden_matrix(const Graph& model, const Users& readers, ValueId parameter) {
  std::vector<Use> uses;
  add_forward_uses(model, readers, parameter, uses);
  if (uses.empty()) return {};
  for (const Use& use : uses)
    if (!is_factor_in_layer(model, use)) return {};
  const Node& product = model.node(uses.front().node);
  const ValueId other = product.inputs[product.inputs[0] == uses.front().read ? 1 : 0];
  const AxisNames apart = axes_taken_apart(product, model, readers), &out = product.attrs.axes("out");
  MatrixAxes matrix;
  std::optional<bool> rows_are_summed;
  for (const Dim& dim : model.value(parameter).desc.dims) {
    const bool is_shared = model.value(other).desc.has(dim.axis), is_summed = !contains(out, dim.axis);
    if ((is_shared && !is_summed) || contains(apart, dim.axis)) {
      matrix.stacked.push_back(dim.axis);
      continue;
    }
    if (!rows_are_summed) rows_are_summed = is_summed;
    (is_summed == *rows_are_summed ? matrix.rows : matrix.columns).push_back(dim.axis);
  }
  if (matrix.rows.empty() || matrix.columns.empty()) return {};
  return matrix;
}

}  // namespace takt
