// Newton-Schulz: a stack of matrices made nearly orthogonal by products alone.
#pragma once

#include "core/graph/graph.h"

namespace takt {

// x: [stacked axes..., rows, columns], f32. The same matrices with singular values near 1 (about 0.7 to 1.2).
ValueId orthogonalized(Graph& graph, ValueId x, const std::string& name);
// y = x / (|x| + eps), matrix by matrix; the matrices lie along the first `num_stacked` axes.
ValueId normalize_matrices(Graph& graph, ValueId x, std::int64_t num_stacked, const std::string& name);

const OpDef& normalize_matrices_op();
const OpDef& weighted_sum_op();

namespace cuda {
DeviceKernel normalize_matrices();
DeviceKernel weighted_sum();
}  // namespace cuda

}  // namespace takt
