// References of elementwise ops: a plain loop in double, which no kernel shares.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include "core/graph/op.h"

namespace takt {

template <auto kFunction, std::size_t... in>
void reference_elements(std::span<const Array* const> inputs, std::span<Array> outputs,
                        std::index_sequence<in...>) {
  for (std::size_t i = 0; i < outputs[0].data.size(); ++i) {
    const auto y = kFunction(inputs[in]->data[i]...);
    if constexpr (std::is_same_v<decltype(y), const double>)
      outputs[0].data[i] = y;
    else
      for (std::size_t o = 0; o < y.size(); ++o) outputs[o].data[i] = y[o];
  }
}

// For a record: y[i] = f(x0[i], x1[i], ..); with several outputs f returns an array, one number an output.
template <std::size_t kInputs, auto kFunction>
void elementwise_reference(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  reference_elements<kFunction>(inputs, outputs, std::make_index_sequence<kInputs>());
}

}  // namespace takt
