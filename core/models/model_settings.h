// Settings that several models read, so that a key means the same in all of them.
#pragma once

#include "core/base/setting.h"

namespace takt {

constexpr double kMostExtent = 1e6;  // of a model's axis: far above any model, far below overflow

Setting layers_setting();    // blocks of the residual stream
Setting embed_setting();     // its width
Setting mlp_setting();       // width inside a block; 0: the model chooses
Setting norm_eps_setting();  // added under the root of the norms
Setting init_std_setting();  // of the initial weights

}  // namespace takt
