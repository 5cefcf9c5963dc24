// Calls and texts as ranks record them, for tests of what is made of the records.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "collectives/signature.h"

namespace takt {

inline Signature a_call(std::uint64_t sequence, std::string_view value, std::size_t num_elements,
                        std::string_view group) {
  Signature call;
  call.operation = Operation::kReduceScatter;
  call.sequence = sequence;
  call.num_elements = num_elements;
  set_group(call, group);
  set_value(call, value);
  return call;
}

template <std::size_t kSize>
void put(std::array<char, kSize>& out, std::string_view text) {
  out = {};
  text.copy(out.data(), kSize - 1);
}

}  // namespace takt
