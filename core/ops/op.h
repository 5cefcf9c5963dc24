// What every op's room includes: the record it fills in, its builder's declaration, and what ops share.
#pragma once

#include "core/graph/graph.h"
#include "core/graph/op.h"
#include "core/ops/builders.h"
#include "core/ops/gradient.h"
#include "core/ops/op_cost.h"
#include "core/ops/parallel_for.h"
#include "core/ops/parallel_kernel.h"
#include "core/ops/placement_rules.h"
#include "core/ops/reference.h"
#include "core/ops/samples.h"
#include "core/ops/shape_rules.h"
