// embedding: rows of a table, chosen by index.
#pragma once

#include <string>

#include "core/graph/graph.h"

namespace takt {

const OpDef& embedding_op();
const OpDef& embedding_grad_op();
// y[tokens' axes, columns] = table[tokens, columns]; table is [rows, columns], tokens i32.
ValueId embedding(Graph& graph, ValueId table, ValueId tokens, const std::string& name);

}  // namespace takt
