// A matmul node as one product of matrices, for the libraries that compute it.
#pragma once

#include "core/device/matmul_shape.h"
#include "core/graph/op.h"

namespace takt {

// `swapped_out`: the result is stored [columns, rows], so b^T a^T is computed: the node's inputs change places.
struct LoweredMatmul {
  MatmulShape shape;
  bool swapped_out = false;
};

// Throws kConfig if the axes do not make one product.
LoweredMatmul lower_matmul(const OpArgs& args);

}  // namespace takt
