// What the emulated device and the library doubles found wrong, in words. A test reads it through control.h.
#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <string_view>

namespace takt::emulated {

// Records `message` for diagnoses() of control.h. The caller then fails its call with its library's own error code.
// Name the thing, show the value, say what was wanted, as takt::Error does.
void diagnose(std::string_view message);

// Records `message` and breaks the device: every later call on it returns `error`, as after a fault on a real device,
// until reset() of control.h. From an operation it is simpler to diagnose() and return the error, which does the same.
void break_device(int device, cudaError_t error, std::string_view message);

// The error that every call on `device` returns; cudaSuccess while it works.
cudaError_t broken(int device);

// A misuse that Takt's conventions forbid (the default stream) or that the double does not know (an attribute): prints
// `message` and aborts the process. Better loud than wrong.
[[noreturn]] void forbidden(std::string_view message);

}  // namespace takt::emulated
