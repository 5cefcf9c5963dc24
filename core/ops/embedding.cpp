// embedding: y[t, :] = table[token[t], :]
//
// Gradient  dtable[v, :] = sum over t with token[t] = v of dy[t, :] (embedding_grad).
// Placement table rows sharded: a rank fills in the rows it has and zeros elsewhere, a partial sum; the
// gradient of
//           its rows needs no communication at all. Token and column axes stay sharded. Linear in table and
//           in dy.
// Cost      no arithmetic to speak of. Memory bound.
#include "core/ops/builders.h"

#include <algorithm>

#include "core/ops/op.h"

namespace takt {
namespace {

const Axis& row_axis(const TensorDesc& table) {
  return table.dims.at(0).axis;
}

void require_table(const OpArgs& args, const TensorDesc& table, const TensorDesc& tokens) {
  TAKT_REQUIRE(table.dims.size() == 2 && is_floating(table.dtype), "embedding '", args.name,
               "': the table must be a matrix, got ", table);
  TAKT_REQUIRE(tokens.dtype == DType::kI32, "embedding '", args.name, "': tokens must be i32, got ", tokens);
}

std::vector<TensorDesc> infer(const OpArgs& args) {
  const TensorDesc &table = args.input(0), &tokens = args.input(1);
  require_table(args, table, tokens);
  TensorDesc y{tokens.dims, table.dtype};
  y.dims.push_back(table.dims[1]);
  return {y};
}

std::vector<std::optional<ValueId>> grad(const GradArgs& args) {
  const ValueId table = args.node.inputs[0], tokens = args.node.inputs[1];
  return {args.graph.append_one(embedding_grad_op(), {args.output_grads[0].value(), tokens},
                                {{"table", args.graph.value(table).desc.dims}}, "d." + args.node.name),
          std::nullopt};
}

Cost cost(const OpArgs& args) {
  const auto bytes = static_cast<double>(args.output(0).num_bytes());
  return {0, bytes, bytes};
}

std::vector<OpPlacement> placements(const OpArgs& args) {
  std::vector<OpPlacement> signatures = batch_rules(args, {});
  signatures.push_back(split_rule(args, row_axis(args.input(0))));
  signatures.push_back(linear_rule(args, {0}));
  return signatures;
}

void reference(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const auto columns = static_cast<std::size_t>(inputs[0]->dims[1].extent);
  for (std::size_t t = 0; t < inputs[1]->data.size(); ++t)
    for (std::size_t c = 0; c < columns; ++c)
      outputs[0].data[t * columns + c] =
          inputs[0]->data[static_cast<std::size_t>(inputs[1]->data[t]) * columns + c];
}

Kernel cpu(const KernelNode& node) {
  const AxisRange rows = node.range(node.input(0), row_axis(node.input(0)));
  return [rows, columns = node.input(0).dims[1].extent, n = node.input(1).num_elements(),
          threads = node.num_threads](const KernelArgs& k) {
    parallel_for(threads, n, [&](std::int64_t t) {
      const std::int64_t row = k.input<std::int32_t>(1)[t] - rows.offset;
      float* y = k.output<float>(0) + t * columns;
      if (row < 0 || row >= rows.num_valid)
        std::fill(y, y + columns, 0.0f);
      else
        std::copy_n(k.input<float>(0) + row * columns, columns, y);
    });
  };
}

std::vector<TensorDesc> infer_grad(const OpArgs& args) {
  const TensorDesc table{args.attrs.dims("table"), args.input(0).dtype};
  require_table(args, table, args.input(1));
  return {table};
}

std::vector<OpPlacement> placements_grad(const OpArgs& args) {
  std::vector<OpPlacement> signatures = batch_rules(args, {});  // the table's rows and columns
  for (const Dim& dim : args.input(1).dims) signatures.push_back(split_rule(args, dim.axis));
  signatures.push_back(linear_rule(args, {0}));
  return signatures;
}

void reference_grad(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const auto columns = static_cast<std::size_t>(outputs[0].dims[1].extent);
  for (std::size_t t = 0; t < inputs[1]->data.size(); ++t)
    for (std::size_t c = 0; c < columns; ++c)
      outputs[0].data[static_cast<std::size_t>(inputs[1]->data[t]) * columns + c] +=
          inputs[0]->data[t * columns + c];
}

Kernel cpu_grad(const KernelNode& node) {
  const AxisRange rows = node.range(node.output(0), row_axis(node.output(0)));
  const std::int64_t num_elements = node.output(0).num_elements();
  return [=, columns = node.output(0).dims[1].extent, n = node.input(1).num_elements(),
          threads = node.num_threads](const KernelArgs& k) {
    float* table = k.output<float>(0);
    std::fill(table, table + num_elements, 0.0f);
    // Threads own columns, so that every sum is added up in token order.
    constexpr std::int64_t kColumns = 64;
    parallel_for(threads, (columns + kColumns - 1) / kColumns, [&](std::int64_t block) {
      const std::int64_t first = block * kColumns, last = std::min(columns, first + kColumns);
      for (std::int64_t t = 0; t < n; ++t) {
        const std::int64_t row = k.input<std::int32_t>(1)[t] - rows.offset;
        if (row < 0 || row >= rows.num_valid) continue;
        for (std::int64_t c = first; c < last; ++c)
          table[row * columns + c] += k.input<float>(0)[t * columns + c];
      }
    });
  };
}

const TensorDesc kTokens{{{"batch", 4}, {"seq", 3}}, DType::kI32};
const Dims kTable = {{"vocab", 12}, {"embed", 8}};

}  // namespace

const OpDef& embedding_op() {
  static const OpDef op = {.name = "embedding",
                           .infer = infer,
                           .grad = grad,
                           .cost = cost,
                           .placements = placements,
                           .reference = reference,
                           .cpu = {cpu},
                           .samples = {{.name = "12 rows",
                                        .build =
                                            [](Graph& g) {
                                              const ValueId table = g.input("table", {kTable, DType::kF32});
                                              embedding(g, table, g.input("tokens", kTokens), "y");
                                            },
                                        .index_bound = 12}}};
  return op;
}

const OpDef& embedding_grad_op() {
  static const OpDef op = {
      .name = "embedding_grad",
      .infer = infer_grad,
      .cost = cost,
      .placements = placements_grad,
      .reference = reference_grad,
      .cpu = {cpu_grad},
      .samples = {
          {.name = "12 rows",
           .build =
               [](Graph& g) {
                 const ValueId dy = g.input("dy", {{{"batch", 4}, {"seq", 3}, {"embed", 8}}, DType::kF32});
                 g.append_one(embedding_grad_op(), {dy, g.input("tokens", kTokens)}, {{"table", kTable}},
                              "dtable");
               },
           .index_bound = 12}}};
  return op;
}

ValueId embedding(Graph& graph, ValueId table, ValueId tokens, const std::string& name) {
  return graph.append_one(embedding_op(), {table, tokens}, {}, name);
}

}  // namespace takt
