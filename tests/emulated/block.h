// One block of a kernel: its threads are fibres that take turns on this OS thread until all are done.
//
// A fibre runs thread after thread; only when one of them has to wait at a barrier does another fibre start the next. So a
// kernel without synchronisation is a plain loop. Whoever arrives last at a meeting goes on without a switch.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/emulated/bind.h"
#include "tests/emulated/control.h"
#include "tests/emulated/device_runtime.h"
#include "tests/emulated/fiber.h"
#include "tests/emulated/sync.h"

namespace takt::emulated {

// A kernel did what no device allows; says what, where and who.
struct DeviceFault {
  std::string message;
};

enum class ThreadState : uint8_t { kUnstarted, kRunning, kReady, kAtBarrier, kInWarp, kDone };

struct CudaThread {
  uint3 index{};
  unsigned linear = 0;
  unsigned lane = 0;
  unsigned warp = 0;
  ThreadState state = ThreadState::kUnstarted;
  Fiber* fiber = nullptr;  // that it runs or waits on
  CallSite site;           // where it waits
  uint64_t value = 0;      // what it brought to a warp operation
  unsigned source_lane = 0;
  uint64_t result = 0;
};

// Lanes that meet, or wait to: those of `mask`.
struct WarpMeeting {
  unsigned mask = 0;
  unsigned arrived = 0;
  WarpOp op = WarpOp::kSync;
  CallSite site;
};

struct Warp {
  unsigned alive = 0;  // lanes that have not finished
  std::vector<WarpMeeting> meetings;
  Edge sync;
};

class BlockExecutor {
 public:
  BlockExecutor();

  // Runs one block of `grid` x `block`. Throws DeviceFault; the fibres of its threads are then lost on purpose, since
  // nothing can unwind them. The thread order is drawn from `random`.
  void run(const void* kernel, Invoke invoke, void** arguments, uint3 block_index, dim3 block,
           std::mt19937_64& random);

  // Options of the following blocks.
  ThreadOrder order = ThreadOrder::kForward;
  bool fiber_per_thread = false;  // ThreadSanitizer tells the threads of a block apart by their fibres

  // What device code calls, by the running thread.
  int barrier(Reduction reduction, bool predicate, CallSite site);
  uint64_t meet(WarpOp op, unsigned mask, uint64_t value, unsigned source_lane, CallSite site);
  unsigned active_mask() const;
  [[noreturn]] void fault_at(const std::string& what, CallSite site);

 private:
  static void fiber_entry();
  void fiber_loop(Fiber* self);

  // ---- taking turns ----
  void start_block(uint3 block_index, dim3 block);
  void set_order();
  void make_fibers();
  void start_threads(Fiber* self);
  void go_on_after(Fiber* self);
  void finish_thread(CudaThread& thread);
  void wait(ThreadState state, CallSite site);
  void become(CudaThread& thread);
  void make_ready(CudaThread& thread);
  CudaThread& take_ready();
  Fiber* take_fiber();
  void enter(Context& from, Fiber* to);

  // ---- meetings ----
  void release_barrier();
  WarpMeeting& join_meeting(Warp& warp, WarpOp op, unsigned mask, CallSite site);
  void hold_meeting(unsigned warp, std::size_t meeting);
  uint64_t meeting_result(const WarpMeeting& meeting, unsigned first_thread, unsigned lane) const;

  [[noreturn]] void fault(std::string message);
  [[noreturn]] void fault_stuck();
  std::string block_name() const;

  const void* kernel_ = nullptr;
  Invoke invoke_ = nullptr;
  void** arguments_ = nullptr;
  std::mt19937_64* random_ = nullptr;

  std::vector<CudaThread> threads_;
  std::vector<Warp> warps_;
  std::vector<unsigned> start_order_;
  std::vector<unsigned> ready_;  // threads that may go on, oldest first, from ready_head_
  std::size_t ready_head_ = 0;
  unsigned num_threads_ = 0;
  unsigned num_started_ = 0;
  unsigned num_alive_ = 0;

  unsigned num_at_barrier_ = 0;
  CallSite barrier_site_;
  unsigned num_barriers_ = 0;
  unsigned num_true_ = 0;      // predicates brought to the barrier that fills
  unsigned count_result_ = 0;  // of the last barrier
  unsigned size_result_ = 0;

  Context main_;
  CudaThread* current_ = nullptr;
  Fiber* running_ = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  std::vector<Fiber*> spent_;  // fiber_per_thread: have run their thread of this block
  std::string fault_;

  // What orders the threads of a block among each other, for ThreadSanitizer: start, end, and barriers in turn.
  Edge start_edge_, end_edge_, barrier_edges_[2];
  Edge stop_edge_;  // what threads did that never end, for who goes on after a fault
};

// The executor of this OS thread; made at first use, gone with the thread.
BlockExecutor& block_executor();

}  // namespace takt::emulated
