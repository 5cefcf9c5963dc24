// The printed names of reductions, as error messages and reports show them.
#include "collectives/communicator.h"

#include "core/base/error.h"

namespace takt {

std::string_view name_of(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return "sum";
    case ReduceOp::kMax:
      return "max";
  }
  fail(Fault::kBug, "name_of: unknown reduce op");
}

}  // namespace takt
