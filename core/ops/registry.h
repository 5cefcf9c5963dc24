// All ops, in alphabetical order.
#pragma once

#include <span>

#include "core/graph/op.h"

namespace takt {

std::span<const OpDef* const> op_registry();

}  // namespace takt
