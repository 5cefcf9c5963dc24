// applied_factor: nothing is applied after a step that was not.
#pragma once

#include <string>

#include "core/graph/graph.h"

namespace takt {

const OpDef& applied_factor_op();
// The factor, or NaN if this step or one before it had a factor or a loss that is not finite: `failed`, which outlives the
// step and is overwritten, is then no longer 0. With `forgives` only this step counts. All are scalars.
ValueId applied_factor(Graph& graph, ValueId factor, ValueId loss, ValueId failed, bool forgives,
                       const std::string& name);

namespace cuda {
DeviceKernel applied_factor();
}

}  // namespace takt
