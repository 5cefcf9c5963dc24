// The one record of each op, completed by what the list of ops says.
#include "core/ops/registry.h"

#include <array>

#include "core/ops/builders.h"
#include "core/ops/cuda_kernels.h"

namespace takt {
namespace {

OpDef completed(OpDef op, const char* name, const DeviceKernel& cuda) {
  op.name = name;
  op.cuda = cuda;
  return op;
}

}  // namespace

#define TAKT_DEFINE_OP(op)                                                        \
  const OpDef& op##_op() {                                                        \
    static const OpDef def = completed(op##_record(), #op, TAKT_CUDA_KERNEL(op)); \
    return def;                                                                   \
  }
TAKT_OPS(TAKT_DEFINE_OP)
#undef TAKT_DEFINE_OP

std::span<const OpDef* const> op_registry() {
#define TAKT_LIST_OP(op) &op##_op(),
  static const std::array ops = {TAKT_OPS(TAKT_LIST_OP)};
#undef TAKT_LIST_OP
  return ops;
}

}  // namespace takt
