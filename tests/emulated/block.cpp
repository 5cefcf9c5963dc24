// One block of a kernel: see block.h. How its threads take turns; how they meet is in meetings.cpp.
#include "tests/emulated/block.h"

#include <algorithm>
#include <utility>

TAKT_EMULATED_TLS uint3 threadIdx = {0, 0, 0};
TAKT_EMULATED_TLS uint3 blockIdx = {0, 0, 0};
TAKT_EMULATED_TLS dim3 blockDim{1, 1, 1};
TAKT_EMULATED_TLS dim3 gridDim{1, 1, 1};

namespace takt::emulated {

TAKT_EMULATED_TLS unsigned current_lane = 0;

namespace {

// Fibres beyond these go back to the process when a block is done. Those of ThreadSanitizer are expensive to make.
#if defined(TAKT_EMULATED_TSAN)
constexpr std::size_t kMaxKeptFibers = 1025;
#else
constexpr std::size_t kMaxKeptFibers = 64;
#endif

// The owner frees it when the thread ends; the pointer, which needs no check whether it was initialised, is for every use.
thread_local std::unique_ptr<BlockExecutor> owned_executor;
constinit thread_local BlockExecutor* this_threads_executor = nullptr;

}  // namespace

BlockExecutor& block_executor() {
  if (this_threads_executor == nullptr) {
    owned_executor = std::make_unique<BlockExecutor>();
    this_threads_executor = owned_executor.get();
  }
  return *this_threads_executor;
}

BlockExecutor::BlockExecutor() {
  describe_main(main_);
}

void BlockExecutor::run(const void* kernel, Invoke invoke, void** arguments, uint3 block_index, dim3 block,
                        std::mt19937_64& random) {
  kernel_ = kernel;
  invoke_ = invoke;
  arguments_ = arguments;
  random_ = &random;
  start_block(block_index, block);
  if (fiber_per_thread) make_fibers();
  end_edge_.acquire();
  start_edge_.release();
  enter(main_, take_fiber());
  end_edge_.acquire();
  current_ = nullptr;
  if (!fault_.empty()) {
    stop_edge_.acquire();
    idle_.clear();
    spent_.clear();
    fibers_.clear();
    throw DeviceFault{std::exchange(fault_, {})};
  }
  if (fibers_.size() > kMaxKeptFibers) {
    fibers_.resize(kMaxKeptFibers);
    idle_.clear();
    for (const auto& fiber : fibers_) idle_.push_back(fiber.get());
  }
}

void BlockExecutor::start_block(uint3 block_index, dim3 block) {
  const unsigned num_threads = block.x * block.y * block.z;
  if (threads_.size() < num_threads) threads_.resize(num_threads);
  if (num_threads_ != num_threads || blockDim.x != block.x || blockDim.y != block.y)
    for (unsigned i = 0; i < num_threads; ++i) {
      threads_[i].index = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
      threads_[i].linear = i;
      threads_[i].lane = i % 32;
      threads_[i].warp = i / 32;
    }
  for (unsigned i = 0; i < num_threads; ++i) threads_[i].state = ThreadState::kUnstarted;
  num_threads_ = num_alive_ = num_threads;
  num_started_ = num_at_barrier_ = num_true_ = 0;
  ready_.clear();
  ready_head_ = 0;
  const unsigned num_warps = (num_threads + 31) / 32;
  if (warps_.size() < num_warps) warps_.resize(num_warps);
  for (unsigned w = 0; w < num_warps; ++w) {
    const unsigned lanes = std::min(32u, num_threads - w * 32);
    warps_[w].alive = lanes == 32 ? ~0u : (1u << lanes) - 1;
    warps_[w].meetings.clear();
  }
  set_order();
  blockIdx = block_index;
  blockDim = block;
}

void BlockExecutor::set_order() {
  start_order_.resize(num_threads_);
  for (unsigned i = 0; i < num_threads_; ++i)
    start_order_[i] = order == ThreadOrder::kReverse ? num_threads_ - 1 - i : i;
  if (order == ThreadOrder::kRandom) std::shuffle(start_order_.begin(), start_order_.end(), *random_);
}

void BlockExecutor::make_fibers() {
  while (idle_.size() < num_threads_ + 1) {
    fibers_.push_back(std::make_unique<Fiber>(&fiber_entry));
    idle_.push_back(fibers_.back().get());
  }
}

void BlockExecutor::fiber_entry() {
  begin_fiber();
  BlockExecutor& executor = *this_threads_executor;
  executor.fiber_loop(executor.running_);
}

void BlockExecutor::fiber_loop(Fiber* self) {
  for (;;) {
    start_threads(self);
    go_on_after(self);
  }
}

// Runs threads that have not begun, one after the other, until one that waited may go on.
void BlockExecutor::start_threads(Fiber* self) {
  while (num_started_ < num_threads_) {
    CudaThread& thread = threads_[start_order_[num_started_++]];
    thread.fiber = self;
    become(thread);
    start_edge_.acquire();
    invoke_(kernel_, arguments_);
    end_edge_.release();
    finish_thread(*current_);
    if (ready_head_ < ready_.size() || fiber_per_thread) return;
  }
}

// `self` has nothing to do: whoever can go on does. Returns when a thread shall start on `self`.
void BlockExecutor::go_on_after(Fiber* self) {
  (fiber_per_thread ? spent_ : idle_).push_back(self);
  if (ready_head_ < ready_.size()) {
    enter(self->context, take_ready().fiber);
  } else if (num_started_ < num_threads_) {
    enter(self->context, take_fiber());
  } else if (num_alive_ == 0) {
    idle_.insert(idle_.end(), spent_.begin(), spent_.end());
    spent_.clear();
    running_ = nullptr;
    switch_context(self->context, main_);
  } else {
    fault_stuck();
  }
}

void BlockExecutor::finish_thread(CudaThread& thread) {
  thread.state = ThreadState::kDone;
  --num_alive_;
  if (num_at_barrier_ > 0)
    fault(block_name() + "thread " + std::to_string(thread.linear) +
          " finished while others wait at __syncthreads " + "of line " +
          std::to_string(barrier_site_.line()) + " of " + barrier_site_.file_name());
  Warp& warp = warps_[thread.warp];
  warp.alive &= ~(1u << thread.lane);
  for (std::size_t i = 0; i < warp.meetings.size();) {
    const WarpMeeting& meeting = warp.meetings[i];
    if ((meeting.mask & warp.alive & ~meeting.arrived) == 0)
      hold_meeting(thread.warp, i);
    else
      ++i;
  }
}

// The running thread cannot go on. Returns when it was made ready and is its turn.
void BlockExecutor::wait(ThreadState state, CallSite site) {
  CudaThread& self = *current_;
  self.state = state;
  self.site = site;
  stop_edge_.release();
  Fiber* next = nullptr;
  if (ready_head_ < ready_.size())
    next = take_ready().fiber;
  else if (num_started_ < num_threads_)
    next = take_fiber();
  else
    fault_stuck();
  enter(self.fiber->context, next);
  become(self);
}

void BlockExecutor::become(CudaThread& thread) {
  current_ = &thread;
  thread.state = ThreadState::kRunning;
  threadIdx = thread.index;
  current_lane = thread.lane;
}

void BlockExecutor::make_ready(CudaThread& thread) {
  thread.state = ThreadState::kReady;
  ready_.push_back(thread.linear);
}

CudaThread& BlockExecutor::take_ready() {
  if (order == ThreadOrder::kRandom) {
    const std::size_t pick = ready_head_ + (*random_)() % (ready_.size() - ready_head_);
    std::swap(ready_[ready_head_], ready_[pick]);
  }
  CudaThread& thread = threads_[ready_[ready_head_++]];
  if (ready_head_ == ready_.size()) {
    ready_.clear();
    ready_head_ = 0;
  }
  return thread;
}

Fiber* BlockExecutor::take_fiber() {
  if (idle_.empty()) {
    fibers_.push_back(std::make_unique<Fiber>(&fiber_entry));
    return fibers_.back().get();
  }
  Fiber* fiber = idle_.back();
  idle_.pop_back();
  return fiber;
}

void BlockExecutor::enter(Context& from, Fiber* to) {
  running_ = to;
  switch_context(from, to->context);
}

void BlockExecutor::fault(std::string message) {
  fault_ = std::move(message);
  stop_edge_.release();
  switch_context(running_->context, main_);
  std::abort();  // nobody returns to a block that failed
}

void BlockExecutor::fault_stuck() {
  unsigned num_at_barrier = 0, num_in_warp = 0;
  const CudaThread* in_warp = nullptr;
  for (unsigned i = 0; i < num_threads_; ++i) {
    num_at_barrier += threads_[i].state == ThreadState::kAtBarrier;
    if (threads_[i].state != ThreadState::kInWarp) continue;
    ++num_in_warp;
    if (in_warp == nullptr) in_warp = &threads_[i];
  }
  std::string message =
      block_name() + "no thread can go on: " + std::to_string(num_at_barrier) + " wait at __syncthreads";
  if (num_at_barrier > 0) message += " of line " + std::to_string(barrier_site_.line());
  message += ", " + std::to_string(num_in_warp) + " in a warp operation";
  if (in_warp != nullptr)
    message += " of line " + std::to_string(in_warp->site.line()) + " (the first is thread " +
               std::to_string(in_warp->linear) + ")";
  fault(message + ", " + std::to_string(num_threads_ - num_alive_) + " finished; " +
        (in_warp != nullptr ? in_warp->site.file_name() : barrier_site_.file_name()));
}

std::string BlockExecutor::block_name() const {
  return "block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
         std::to_string(blockIdx.z) + "): ";
}

void BlockExecutor::fault_at(const std::string& what, CallSite site) {
  fault(block_name() + "thread " + std::to_string(current_->linear) + ": " + what + ", line " +
        std::to_string(site.line()) + " of " + site.file_name());
}

void device_fault(const char* what, CallSite site) {
  block_executor().fault_at(what, site);
}

unsigned active_mask() {
  return block_executor().active_mask();
}

}  // namespace takt::emulated
