// Failures that a test asks for by the name of a call.
#pragma once

#include <optional>
#include <string_view>

namespace takt::emulated {

// The code that this call of `call` ("cudaMalloc", "ncclAllReduce", "cublasLtMatmul") must fail with; nullopt: go on.
// Every entry point of a double asks first, before it does anything. The code is the library's own, cast to int.
//
//   if (const auto fault = injected_fault("ncclAllReduce")) return ncclResult_t(*fault);
std::optional<int> injected_fault(std::string_view call);

}  // namespace takt::emulated
