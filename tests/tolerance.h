// How far a kernel may be from the reference in double precision.
#pragma once

#include "core/base/tensor.h"

namespace takt {

// The largest error of an element of an output of this dtype, as a part of the largest element.
//   f32   sums here have up to a few hundred terms, each rounded by 2^-24 of the sum so far.
//   bf16  kernels compute in f32 and round at the end, by at most 2^-8 of the element (eight significant bits); one
//         value in between, such as what goes into a matmul's activation, may have been rounded too.
inline double tolerance(DType dtype) {
  return dtype == DType::kBF16 ? 0x1p-7 : 2e-5;
}

}  // namespace takt
