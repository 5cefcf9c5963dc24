// invariance: what a layout must be like for its bits to be those of one rank.
#pragma once

#include "core/device/rank_device.h"
#include "core/mesh/mesh.h"
#include "core/train/batch_plan.h"
#include "core/train/step_config.h"

namespace takt {

// With train.numerics = "invariant": throws kConfig, naming what fits, where a layout would sum in another order than one
// rank does. `batch` is that of the layout. With "fast" there is nothing to require.
void require_invariance(const StepConfig& config, const Mesh& mesh, const BatchPlan& batch,
                        const RankDevice& device);

}  // namespace takt
