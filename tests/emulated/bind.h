// How launch() of core/device/cuda/launch.h tells the emulated device how a kernel is called. Under TAKT_CUDA_EMULATED:
//
//   #include "tests/emulated/bind.h"
//
//   template <class... P, class... A>
//   void launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t dynamic_bytes, cudaStream_t stream, A&&... a) {
//     takt::emulated::bind(kernel);                      // before every cudaLaunchKernelExC of that kernel
//     ... cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel), arguments) ...
//   }
//   #define TAKT_DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(takt::emulated::dynamic_shared())
//
// The header needs no CUDA header, and host-only code may include it.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

namespace takt::emulated {

// One parameter of a kernel. Pointers are checked at the launch: they must lie in memory that the device may use.
struct Parameter {
  unsigned num_bytes = 0;
  bool is_pointer = false;
};

// Calls `kernel`, whose type it knows, with arguments[i] pointing to the i-th one.
using Invoke = void (*)(const void* kernel, void** arguments);

void bind_kernel(const void* kernel, Invoke invoke, const Parameter* parameters, std::size_t num_parameters);

// The running block's dynamic shared memory, aligned to 128 bytes. Device code only.
unsigned char* dynamic_shared();

template <class... P>
struct KernelType {
  static constexpr std::size_t kNum = sizeof...(P);
  static constexpr Parameter kParameters[kNum + 1] = {{unsigned(sizeof(P)), std::is_pointer_v<P>}..., {}};

  template <std::size_t... I>
  static void call(void (*kernel)(P...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_cv_t<P>*>(arguments[I])...);
  }
  static void invoke(const void* kernel, [[maybe_unused]] void** arguments) {
    call(reinterpret_cast<void (*)(P...)>(const_cast<void*>(kernel)), arguments,
         std::index_sequence_for<P...>());
  }
};

// Registers how `kernel` is called; cheap enough for every launch.
template <class... P>
void bind(void (*kernel)(P...)) {
  static_assert((std::is_trivially_copyable_v<P> && ...), "parameters of a kernel are copied as bytes");
  using Type = KernelType<P...>;
  bind_kernel(reinterpret_cast<const void*>(kernel), &Type::invoke, Type::kParameters, Type::kNum);
}

}  // namespace takt::emulated
