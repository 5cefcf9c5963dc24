// norm: root-mean-square and layer normalisation over the last axis.
#pragma once

#include <string>

#include "core/graph/graph.h"

namespace takt {

const OpDef& norm_op();
const OpDef& norm_grad_op();
// y = x / sqrt(mean(x^2) + eps) * weight. Source: Zhang and Sennrich 2019, arXiv:1910.07467.
ValueId rms_norm(Graph& graph, ValueId x, ValueId weight, double eps, const std::string& name);
// y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias. Source: Ba et al. 2016, arXiv:1607.06450.
ValueId layer_norm(Graph& graph, ValueId x, ValueId weight, ValueId bias, double eps,
                   const std::string& name);

}  // namespace takt
