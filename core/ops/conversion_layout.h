// Where the pieces of a tensor lie, one a rank, when it is cut, joined or exchanged along an axis.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/device/axis_bytes.h"
#include "core/graph/op.h"

namespace takt {

// The attributes of conversions: see conversion.cpp.
std::int64_t ranks_of(const OpArgs& args);
const Axis& axis_of(const OpArgs& args);
// The axis along which tensor i of a gather or scatter is cut, and its extent in the whole, which a single scatter lacks.
Dim cut_of(const OpArgs& args, std::size_t i);
ReduceOp reduce_of(const OpArgs& args);

AxisBytes view_along(const OpArgs& args, const TensorDesc& desc, const Axis& axis);
// `desc` with another extent along an axis that it has.
TensorDesc with_extent(TensorDesc desc, const Axis& axis, std::int64_t extent);

// A tensor and its pieces along `axis`, of which a rank has one.
struct WholeAndPiece {
  AxisBytes whole, piece;
  std::int64_t ranks;
  std::int64_t stride;  // bytes from one rank's piece to the next one's
  bool direct;          // the pieces lie in the whole in rank order, so that no scratch is needed
  WholeAndPiece(const OpArgs& args, const Axis& axis, const TensorDesc& whole_desc,
                const TensorDesc& piece_desc);
  std::size_t scratch_bytes() const;
};

WholeAndPiece gathered(const OpArgs& args);   // of all_gather: from input 0 to output 0
WholeAndPiece scattered(const OpArgs& args);  // of reduce_scatter: from input 0 to output 0

// Several tensors in one message. A rank's part has its piece of each, one after the other, in scratch: of a gather, the
// part sent and all parts received; of a scatter, all parts sent and the one received.
struct Bundle {
  std::vector<WholeAndPiece> tensors;
  std::vector<std::int64_t> offsets;  // of each piece in a part
  std::int64_t part_bytes = 0;
  std::int64_t ranks = 0;
  std::size_t num_elements = 0;  // of a part
  std::size_t scratch_bytes() const { return static_cast<std::size_t>((ranks + 1) * part_bytes); }
};
Bundle bundle_of(const OpArgs& args, const std::vector<TensorDesc>& wholes,
                 const std::vector<TensorDesc>& pieces);

// What one rank sends to another in all_to_all is cut from the input along the axis that becomes sharded and joined to the
// output along the other. Scratch: the pieces sent, then those received.
struct Exchange {
  TensorDesc part;
  WholeAndPiece sent, received;
  explicit Exchange(const OpArgs& args);
};

std::size_t gather_scratch(const KernelNode& node);
std::size_t scatter_scratch(const KernelNode& node);
std::size_t exchange_scratch(const KernelNode& node);

}  // namespace takt
