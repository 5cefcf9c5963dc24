// ordered_sums: a program whose sums have one order on every mesh.
#pragma once

#include "core/graph/graph.h"
#include "core/passes/sharding_rules.h"

namespace takt {

// Marks the nodes of a global program, in its final precision, that sum over what a mesh may cut:
//
// - products and attention compute by kernels of one order ("ordered"),
// - sums over heads, mlp, vocab or seq are taken in pieces, as many on every mesh ("piece_axis", "pieces": see
//   core/ops/ordered_sum.h). They come out in f32 and without a bias, which is added, and rounded to bf16, once they are
//   complete.
//
// Such a program, placed by rules that keep the order, computes the same bits on every mesh whose micro-batches are the
// same.
Graph with_ordered_sums(const Graph& lowered);

// Does the op, placed like that along a mesh axis, sum in the order of one rank? Over tensor, sums are complete before
// anything else is done with them, and only those in pieces are cut. Over data, every rank has its own samples, of which
// nothing is gathered; what is summed over data is summed over whole micro-batches. Where sums of gradients are cut over a
// mesh axis, all sums over it are taken after every micro-batch, the loss too: see BatchPlan::ranks_side_by_side.
bool keeps_order(const OpDef& op, const OpArgs& args, const OpPlacement& placement,
                 const ShardingRules& rules, const MeshAxis& mesh_axis);

}  // namespace takt
