// The arithmetic of the cuBLASLt double: f32 sums in the order of k, whatever the algorithm.
#pragma once

#include "tests/emulated/cublaslt_support.h"

namespace takt::emulated {

struct MatmulPointers {
  const void *a, *b, *c;
  void* d;
  float alpha, beta;  // c is read only where beta is not 0
};

// D = epilogue(alpha op(A) op(B) + beta C), batch by batch.
void multiply(const MatmulProblem& problem, const MatmulPointers& pointers);

}  // namespace takt::emulated
