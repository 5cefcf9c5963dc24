// embedding: y[t, :] = table[token[t], :]
//
// Gradient  dtable[v, :] = sum over t with token[t] = v of dy[t, :] (embedding_grad): f32, summed in double, also where
//           table and dy are bf16.
// Placement table rows sharded: a rank fills in the rows it has and zeros elsewhere, a partial sum; the gradient of
//           its rows needs no communication at all. Token and column axes stay sharded. Linear in table and in dy.
// Cost      no arithmetic to speak of. Memory bound.
#include <algorithm>
#include <cstring>

#include "core/ops/elementwise.h"
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

Gradients grad(const GradArgs& args) {
  const ValueId table = args.node.inputs[0], tokens = args.node.inputs[1];
  return append_gradient(args, embedding_grad_op(), {dy_of(args), tokens},
                         {{"table", args.graph.value(table).desc.dims}});
}

Cost cost(const OpArgs& args) {
  const auto bytes = static_cast<double>(args.output(0).num_bytes());
  return {0, bytes, bytes};
}

void reference(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const std::int64_t columns = inputs[0]->dims[1].extent;
  for (std::size_t t = 0; t < inputs[1]->data.size(); ++t) {
    const double* row = &inputs[0]->data[static_cast<std::size_t>(inputs[1]->data[t]) * columns];
    std::copy(row, row + columns, &outputs[0].data[t * columns]);
  }
}

Kernel cpu(const KernelNode& node) {
  const TensorDesc& table = node.input(0);
  const AxisRange rows = node.range(table, row_axis(table));
  const std::size_t row_bytes = table.num_bytes() / table.dims[0].extent;
  return parallel_kernel(node, node.input(1).num_elements(), [=](const KernelArgs& k, std::int64_t t) {
    const std::int64_t row = k.input<std::int32_t>(1)[t] - rows.offset;
    std::byte* y = k.output<std::byte>(0) + t * row_bytes;
    if (row < 0 || row >= rows.num_valid)
      std::memset(y, 0, row_bytes);
    else
      std::memcpy(y, k.input<std::byte>(0) + row * row_bytes, row_bytes);
  });
}

std::vector<TensorDesc> infer_grad(const OpArgs& args) {
  const TensorDesc table{args.attrs.dims("table"), DType::kF32};
  require_table(args, table, args.input(1));
  return {table};
}

void reference_grad(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const std::int64_t columns = outputs[0].dims[1].extent;
  for (std::size_t t = 0; t < inputs[1]->data.size(); ++t) {
    double* row = &outputs[0].data[static_cast<std::size_t>(inputs[1]->data[t]) * columns];
    for (std::int64_t c = 0; c < columns; ++c) row[c] += inputs[0]->data[t * columns + c];
  }
}

// The tokens of each row, one row after the other, in token order: `positions[first[r] .. first[r + 1])`.
struct TokensByRow {
  std::int32_t *first, *positions;

  TokensByRow(void* scratch, std::int64_t num_rows)
      : first(static_cast<std::int32_t*>(scratch)), positions(first + num_rows + 1) {}
  static std::size_t num_bytes(std::int64_t num_rows, std::int64_t num_tokens) {
    return static_cast<std::size_t>(num_rows + 1 + num_tokens) * sizeof(std::int32_t);
  }
  // A counting sort. Tokens of rows that this rank does not have are left out.
  void sort(const std::int32_t* tokens, std::int64_t num_tokens, std::int64_t num_rows,
            const AxisRange& rows) {
    const auto has = [&](std::int64_t row) { return row >= 0 && row < rows.num_valid; };
    std::fill(first, first + num_rows + 1, 0);
    for (std::int64_t t = 0; t < num_tokens; ++t)
      if (const std::int64_t row = tokens[t] - rows.offset; has(row)) ++first[row];
    // first[r] becomes the end of row r, and falls to its beginning as positions are filled in.
    std::int32_t end = 0;
    for (std::int64_t r = 0; r <= num_rows; ++r) first[r] = end += first[r];
    for (std::int64_t t = num_tokens; t-- > 0;)
      if (const std::int64_t row = tokens[t] - rows.offset; has(row))
        positions[--first[row]] = static_cast<std::int32_t>(t);
  }
};

std::size_t scratch_grad(const KernelNode& node) {
  return TokensByRow::num_bytes(node.output(0).dims[0].extent, node.input(1).num_elements());
}

constexpr std::int64_t kLanes = 16;  // sums that are held in registers
constexpr std::integral_constant<std::int64_t, kLanes> kLaneConstant;

// The sums of one row of the table, for `columns` columns: a constant, so that they stay in registers, or a number.
template <class T, class Columns>
void sum_tokens(std::span<const std::int32_t> positions, const T* dy, std::int64_t width, float* y,
                Columns columns) {
  double sums[kLanes] = {};
  for (const std::int32_t position : positions) {
    const T* x = dy + position * width;
    for (std::int64_t c = 0; c < columns; ++c) sums[c] += static_cast<double>(to_float(x[c]));
  }
  for (std::int64_t c = 0; c < columns; ++c) y[c] = static_cast<float>(sums[c]);
}

// Columns [first, first + columns) of the table. Threads own columns, so that every sum is added up in token order.
template <class T>
void sum_rows(const TokensByRow& by_row, const T* dy, float* table, const Dims& dims, std::int64_t first,
              std::int64_t columns) {
  const std::int64_t width = dims[1].extent, last = first + columns;
  for (std::int64_t row = 0; row < dims[0].extent; ++row) {
    const std::span positions(by_row.positions + by_row.first[row], by_row.positions + by_row.first[row + 1]);
    float* y = table + row * width;
    std::int64_t c = first;
    for (; c + kLanes <= last; c += kLanes) sum_tokens(positions, dy + c, width, y + c, kLaneConstant);
    if (c < last) sum_tokens(positions, dy + c, width, y + c, last - c);
  }
}

Kernel cpu_grad(const KernelNode& node) {
  const AxisRange rows = node.range(node.output(0), row_axis(node.output(0)));
  return with_floating(node.input(0).dtype, [&](auto type) -> Kernel {
    using T = decltype(type);
    return [rows, dims = node.output(0).dims, n = node.input(1).num_elements(),
            threads = node.num_threads](const KernelArgs& k) {
      TokensByRow by_row(k.scratch, dims[0].extent);
      by_row.sort(k.input<std::int32_t>(1), n, dims[0].extent, rows);
      parallel_columns(threads, dims[1].extent, [&](std::int64_t first, std::int64_t columns) {
        sum_rows(by_row, k.input<T>(0), k.output<float>(0), dims, first, columns);
      });
    };
  });
}

const Sample kSample = sample(
    "12 rows",
    {{"table", {{{"vocab", 12}, {"embed", 8}}}}, {"tokens", {{{"batch", 4}, {"seq", 3}}, DType::kI32}}},
    [](Graph& g, const auto& in) { embedding(g, in[0], in[1], "y"); }, 12);

}  // namespace

OpDef embedding_record() {
  return {.infer = infer,
          .grad = grad,
          .cost = cost,
          .placement = {.linear_in = {{0}}},
          .reference = reference,
          .cpu = {.prepare = cpu, .bf16 = true},
          .samples = {kSample}};
}

OpDef embedding_grad_record() {
  return {.infer = infer_grad,
          .cost = cost,
          .placement = {.linear_in = {{0}}},
          .reference = reference_grad,
          .cpu = {.prepare = cpu_grad, .scratch_bytes = scratch_grad, .bf16 = true},
          .samples = with_gradient({kSample})};
}

ValueId embedding(Graph& graph, ValueId table, ValueId tokens, const std::string& name) {
  return graph.append_one(embedding_op(), {table, tokens}, {}, name);
}

}  // namespace takt
