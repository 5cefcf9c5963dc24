// Conversions between placements, of every dtype, along leading and inner axes, even and uneven.
#include <gtest/gtest.h>

#include "collectives/local.h"
#include "core/base/rng.h"
#include "core/ops/builders.h"
#include "tests/run_kernel.h"
#include "tests/tolerance.h"

namespace takt {
namespace {

struct Layout {
  DType dtype;
  int num_ranks;
  std::int64_t rows, columns;
  Axis axis;  // "rows" or "columns"
};

std::vector<Layout> layouts() {
  std::vector<Layout> all;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI32})
    for (const int num_ranks : {1, 2, 3, 4})
      for (const std::int64_t extent : {12, 13, 2})  // even, padded, and fewer than ranks
        for (const Axis axis : {Axis("rows"), Axis("columns")})
          all.push_back({dtype, num_ranks, axis == "rows" ? extent : 5, axis == "rows" ? 5 : extent, axis});
  return all;
}

TensorDesc whole(const Layout& l) {
  return {{{"rows", l.rows}, {"columns", l.columns}}, l.dtype};
}
TensorDesc piece(const Layout& l) {
  TensorDesc desc = whole(l);
  Dim& dim = desc.dims[l.axis == "rows" ? 0 : 1];
  dim.extent = (dim.extent + l.num_ranks - 1) / l.num_ranks;
  return desc;
}
Attrs attrs(const Layout& l) {
  return {{"ranks", std::int64_t{l.num_ranks}},
          {"axis", l.axis},
          {"extent", whole(l).extent(l.axis)},
          {"op", std::string("sum")}};
}

// Small whole numbers: exact in every dtype, sums of a few included.
std::vector<double> numbers(const TensorDesc& desc, int rank) {
  const RandomStream random(5, "rank " + std::to_string(rank));
  std::vector<double> data(static_cast<std::size_t>(desc.num_elements()));
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<double>(random.below(i, 30)) - 15;
  return data;
}

std::vector<double> sum_of_all(const Layout& l) {
  std::vector<double> sum(static_cast<std::size_t>(whole(l).num_elements()));
  for (int rank = 0; rank < l.num_ranks; ++rank) {
    const std::vector<double> part = numbers(whole(l), rank);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
  }
  return sum;
}

void on_every_layout(const std::function<void(const Layout&, Communicator&)>& body) {
  for (const Layout& l : layouts()) {
    SCOPED_TRACE(concat(to_string(whole(l)), " along ", l.axis, " on ", l.num_ranks, " ranks"));
    run_ranks(l.num_ranks, [&](Communicator& comm) { body(l, comm); });
  }
}

std::vector<double> convert(const OpDef& op, const Layout& l, const TensorDesc& x,
                            const std::vector<double>& data, Communicator& comm) {
  return run_kernel(op, attrs(l), {x}, {data}, &comm)[0];
}

TEST(Conversion, GatheringSlicesGivesTheWhole) {
  on_every_layout([](const Layout& l, Communicator& comm) {
    const std::vector<double> x = numbers(whole(l), 0);
    const std::vector<double> slice = convert(local_slice_op(), l, whole(l), x, comm);
    EXPECT_EQ(convert(all_gather_op(), l, piece(l), slice, comm), x);
  });
}

TEST(Conversion, ReducingAndScatteringIsReducingAndSlicing) {
  on_every_layout([](const Layout& l, Communicator& comm) {
    const std::vector<double> mine = numbers(whole(l), comm.rank());
    const std::vector<double> sum = convert(all_reduce_op(), l, whole(l), mine, comm);
    EXPECT_EQ(sum, sum_of_all(l));
    EXPECT_EQ(convert(reduce_scatter_op(), l, whole(l), mine, comm),
              convert(local_slice_op(), l, whole(l), sum, comm));
  });
}

TEST(Conversion, KeepingOnTheFirstIsUndoneByReducing) {
  on_every_layout([](const Layout& l, Communicator& comm) {
    const std::vector<double> x = numbers(whole(l), 0);
    const std::vector<double> kept = convert(keep_on_first_op(), l, whole(l), x, comm);
    EXPECT_EQ(convert(all_reduce_op(), l, whole(l), kept, comm), x);
  });
}

// From slices along the other axis to slices along l.axis.
TEST(Conversion, ExchangingIsGatheringAndSlicing) {
  on_every_layout([](const Layout& l, Communicator& comm) {
    Layout from = l;
    from.axis = l.axis == "rows" ? "columns" : "rows";
    (from.axis == "rows" ? from.rows : from.columns) = 2 * l.num_ranks;
    Layout to = from;
    to.axis = l.axis;
    const std::vector<double> x = numbers(whole(from), 0);
    const std::vector<double> slice = convert(local_slice_op(), from, whole(from), x, comm);
    Attrs exchange = attrs(to);
    exchange.set("from", from.axis);
    EXPECT_EQ(run_kernel(all_to_all_op(), exchange, {piece(from)}, {slice}, &comm)[0],
              convert(local_slice_op(), to, whole(to), x, comm));
  });
}

// Each rank's summand is a bf16 number; their sum is rounded once, not once a rank.
TEST(Conversion, BF16IsReducedInF32AndRoundedOnce) {
  const Layout l{DType::kBF16, 4, 1, 1, "rows"};
  run_ranks(4, [&](Communicator& comm) {
    const double mine = comm.rank() == 0 ? 256.0 : 0.75;  // 256 + 0.75 is 256 in bf16; 258.25 is 258
    EXPECT_EQ(convert(all_reduce_op(), l, whole(l), {mine}, comm), std::vector<double>{258.0});
  });
}

std::size_t scratch_of(const OpDef& op, const Layout& l, const TensorDesc& x) {
  const std::string name = op.name;
  const Attrs node_attrs = attrs(l);
  KernelNode node{{name, node_attrs, {x}, {}}};
  node.outputs = op.infer(node);
  return op.cpu.scratch_bytes ? op.cpu.scratch_bytes(node) : 0;
}

TEST(Conversion, NeedsNoScratchWherePiecesLieInRankOrder) {
  const Layout leading{DType::kF32, 4, 12, 5, "rows"}, uneven{DType::kF32, 4, 13, 5, "rows"},
      inner{DType::kF32, 4, 5, 12, "columns"};
  EXPECT_EQ(scratch_of(all_gather_op(), leading, piece(leading)), 0u);
  EXPECT_EQ(scratch_of(reduce_scatter_op(), leading, whole(leading)), 0u);
  EXPECT_EQ(scratch_of(local_slice_op(), inner, whole(inner)), 0u);
  for (const Layout& l : {uneven, inner}) {
    EXPECT_GT(scratch_of(all_gather_op(), l, piece(l)), 0u);
    EXPECT_GT(scratch_of(reduce_scatter_op(), l, whole(l)), 0u);
  }
}

}  // namespace
}  // namespace takt
