// Fibres: see fiber.h.
//
// Stacks come from a pool of the process: hundreds of ranks launch kernels of a thousand threads, but only as many blocks
// are under way as the machine has cores, and a process may have 65530 mappings.
#include "tests/emulated/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "tests/emulated/diagnosis.h"
#include "tests/emulated/sync.h"

#if defined(TAKT_EMULATED_TSAN)
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
}
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace takt::emulated {
namespace {

constexpr std::size_t kGuardBytes = 4096;
#if defined(TAKT_EMULATED_TSAN) || defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kStackBytes = 256 * 1024;  // instrumented frames are larger
#else
constexpr std::size_t kStackBytes = 64 * 1024;
#endif
// ThreadSanitizer does not switch its own state with the stack, but must not take the switch for an ordering.
[[maybe_unused]] constexpr unsigned kNoSync = 1;

Mutex pool_mutex;
std::vector<void*>& pool() {
  static std::vector<void*>& mappings =
      *new std::vector<void*>;  // outlives the threads that exit with the process
  return mappings;
}

void* acquire_mapping() {
  {
    const Lock lock(pool_mutex);
    if (!pool().empty()) {
      void* mapping = pool().back();
      pool().pop_back();
      return mapping;
    }
  }
  void* mapping = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) forbidden("no memory for the stack of a fibre: see vm.max_map_count");
  mprotect(mapping, kGuardBytes, PROT_NONE);
  return mapping;
}

void release_mapping(void* mapping) {
#if defined(__SANITIZE_ADDRESS__)
  // A block that failed leaves frames behind, with the marks of their variables.
  __asan_unpoison_memory_region(static_cast<char*>(mapping) + kGuardBytes, kStackBytes);
#endif
  const Lock lock(pool_mutex);
  pool().push_back(mapping);
}

// Hot tops of stacks that all begin at the same offset in a page fall into the same few sets of the cache.
std::size_t stagger() {
  static std::atomic<unsigned> num_stacks{0};
  return num_stacks.fetch_add(1, std::memory_order_relaxed) * 448u % 4096u / 64 * 64;
}

#if defined(TAKT_EMULATED_UCONTEXT)
void prepare(Context& context, char* stack, std::size_t num_bytes, void (*entry)()) {
  getcontext(&context.registers);
  context.registers.uc_stack.ss_sp = stack;
  context.registers.uc_stack.ss_size = num_bytes;
  context.registers.uc_link = nullptr;
  makecontext(&context.registers, entry, 0);
}
#else
// The stack as if takt_emulated_switch had been called from a caller that returns into `entry`.
void prepare(Context& context, char* stack, std::size_t num_bytes, void (*entry)()) {
  void** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + num_bytes) & ~uintptr_t{15});
  *--top = nullptr;  // entry's own return address: the alignment that a call leaves
  *--top = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  context.stack_pointer = top;
}
#endif

}  // namespace

#if !defined(TAKT_EMULATED_UCONTEXT)
// void takt_emulated_switch(void** save, void* load). It ends in `ret`, not in a jump: the processor predicts returns.
extern "C" void takt_emulated_switch(void** save, void* load);
asm(R"(
.text
.globl takt_emulated_switch
.type takt_emulated_switch,@function
takt_emulated_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size takt_emulated_switch,.-takt_emulated_switch
)");
#endif

void describe_main([[maybe_unused]] Context& context) {
#if defined(TAKT_EMULATED_TSAN)
  context.sanitizer = __tsan_get_current_fiber();
#endif
#if defined(__SANITIZE_ADDRESS__)
  pthread_attr_t attributes;
  void* stack = nullptr;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &stack, &context.stack_bytes);
  pthread_attr_destroy(&attributes);
  context.stack = stack;
#endif
}

Fiber::Fiber(void (*entry)()) : mapping_(acquire_mapping()) {
  prepare(context, static_cast<char*>(mapping_) + kGuardBytes, kStackBytes - stagger(), entry);
#if defined(TAKT_EMULATED_TSAN)
  context.sanitizer = __tsan_create_fiber(0);
#endif
  context.stack = static_cast<char*>(mapping_) + kGuardBytes;
  context.stack_bytes = kStackBytes;
}

Fiber::~Fiber() {
#if defined(TAKT_EMULATED_TSAN)
  __tsan_destroy_fiber(context.sanitizer);
#endif
  release_mapping(mapping_);
}

void begin_fiber() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

void switch_context(Context& from, Context& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
#endif
#if defined(TAKT_EMULATED_TSAN)
  __tsan_switch_to_fiber(to.sanitizer, kNoSync);
#endif
#if defined(TAKT_EMULATED_UCONTEXT)
  swapcontext(&from.registers, &to.registers);
#else
  takt_emulated_switch(&from.stack_pointer, to.stack_pointer);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

}  // namespace takt::emulated
