// Fibres: stacks that the threads of a block run on, and the switch between them.
//
// On x86-64 the switch is twelve instructions; elsewhere, or with TAKT_EMULATED_UCONTEXT, it is swapcontext, ten times
// slower because it saves the signal mask. A fibre never moves to another OS thread while it runs: compilers keep the
// address of thread-locals across calls.
#pragma once

#include <cstddef>
#include <memory>

#if !defined(__x86_64__) && !defined(TAKT_EMULATED_UCONTEXT)
#define TAKT_EMULATED_UCONTEXT
#endif
#if defined(TAKT_EMULATED_UCONTEXT)
#include <ucontext.h>
#endif

namespace takt::emulated {

// Where something stopped: the registers that a call preserves, on its stack.
struct Context {
#if defined(TAKT_EMULATED_UCONTEXT)
  ucontext_t registers;
#else
  void* stack_pointer = nullptr;
#endif
  void* sanitizer = nullptr;  // ThreadSanitizer's view of this flow of control
  // AddressSanitizer's: where the stack lies, and frames that it keeps elsewhere.
  const void* stack = nullptr;
  std::size_t stack_bytes = 0;
  void* fake_stack = nullptr;
};

// The context of the OS thread itself; what fibres return to.
void describe_main(Context& context);

class Fiber {
 public:
  // Begins in `entry`, which never returns, at the first switch to it. Under ThreadSanitizer only the OS thread's own
  // context may make fibres: making one orders it after its maker.
  explicit Fiber(void (*entry)());
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  Context context;

 private:
  void* mapping_ = nullptr;
};

// The first that a fibre does.
void begin_fiber();

// Goes on at `to`; returns when something switches back to `from`.
void switch_context(Context& from, Context& to);

}  // namespace takt::emulated
