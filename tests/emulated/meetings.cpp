// How the threads of a block meet: barriers of the block, and operations of a warp. See block.h.
#include <string>

#include "tests/emulated/block.h"

namespace takt::emulated {
namespace {

constexpr uint64_t kPoison = ~uint64_t{0};  // NaN in every floating type

// By line and column, so that two barriers in one line are two; names of files may be told twice by two libraries.
bool same_place(CallSite a, CallSite b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::string_view(a.file_name()) == b.file_name());
}

}  // namespace

int block_barrier(Reduction reduction, bool predicate, CallSite site) {
  return block_executor().barrier(reduction, predicate, site);
}

uint64_t warp_meet(WarpOp op, unsigned mask, uint64_t value, unsigned source_lane, CallSite site) {
  return block_executor().meet(op, mask, value, source_lane, site);
}

int BlockExecutor::barrier(Reduction reduction, bool predicate, CallSite site) {
  if (num_alive_ < num_threads_) fault_at("__syncthreads after a thread of the block has finished", site);
  if (num_at_barrier_ == 0) {
    barrier_site_ = site;
  } else if (!same_place(site, barrier_site_)) {
    fault_at(
        "divergent __syncthreads: others wait at the one of line " + std::to_string(barrier_site_.line()),
        site);
  }
  Edge& edge = barrier_edges_[num_barriers_ % 2];
  edge.release();
  num_true_ += predicate;
  if (++num_at_barrier_ == num_threads_)
    release_barrier();
  else
    wait(ThreadState::kAtBarrier, site);
  edge.acquire();
  switch (reduction) {
    case Reduction::kOr:
      return count_result_ > 0;
    case Reduction::kAnd:
      return count_result_ == size_result_;
    case Reduction::kCount:
      return int(count_result_);
    case Reduction::kNone:
      break;
  }
  return 0;
}

void BlockExecutor::release_barrier() {
  ++num_barriers_;
  count_result_ = num_true_;
  size_result_ = num_threads_;
  num_at_barrier_ = num_true_ = 0;
  for (const unsigned i : start_order_)
    if (threads_[i].state == ThreadState::kAtBarrier) make_ready(threads_[i]);
}

uint64_t BlockExecutor::meet(WarpOp op, unsigned mask, uint64_t value, unsigned source_lane, CallSite site) {
  CudaThread& self = *current_;
  if ((mask >> self.lane & 1) == 0)
    fault_at("the mask of a warp operation does not name the lane that calls it", site);
  self.value = value;
  self.source_lane = source_lane;
  Warp& warp = warps_[self.warp];
  WarpMeeting& meeting = join_meeting(warp, op, mask, site);
  meeting.arrived |= 1u << self.lane;
  if (op == WarpOp::kSync) warp.sync.release();  // a shuffle orders no memory
  if ((mask & warp.alive & ~meeting.arrived) == 0)
    hold_meeting(self.warp, std::size_t(&meeting - warp.meetings.data()));
  else
    wait(ThreadState::kInWarp, site);
  if (op == WarpOp::kSync) warp.sync.acquire();
  return self.result;
}

// Meetings of different masks may wait beside each other, and share lanes: who waits for the whole warp lets half of it
// meet before. If two wait for each other's lanes, no thread can go on, which is found then.
WarpMeeting& BlockExecutor::join_meeting(Warp& warp, WarpOp op, unsigned mask, CallSite site) {
  for (WarpMeeting& meeting : warp.meetings) {
    if (meeting.mask != mask) continue;
    if (meeting.op != op || !same_place(meeting.site, site))
      fault_at("lanes of one warp meet in different warp operations: others wait in the one of line " +
                   std::to_string(meeting.site.line()),
               site);
    return meeting;
  }
  return warp.meetings.emplace_back(WarpMeeting{mask, 0, op, site});
}

// All are there: each gets its result, and those that waited may go on.
void BlockExecutor::hold_meeting(unsigned warp, std::size_t meeting_index) {
  std::vector<WarpMeeting>& meetings = warps_[warp].meetings;
  const WarpMeeting meeting = meetings[meeting_index];
  meetings[meeting_index] = meetings.back();
  meetings.pop_back();
  const unsigned first_thread = warp * 32;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((meeting.arrived >> lane & 1) == 0) continue;
    CudaThread& thread = threads_[first_thread + lane];
    thread.result = meeting_result(meeting, first_thread, lane);
    if (thread.state == ThreadState::kInWarp) make_ready(thread);
  }
}

uint64_t BlockExecutor::meeting_result(const WarpMeeting& meeting, unsigned first_thread,
                                       unsigned lane) const {
  if (meeting.op == WarpOp::kShuffle) {
    const unsigned source = threads_[first_thread + lane].source_lane;
    return (meeting.arrived >> source & 1) != 0 ? threads_[first_thread + source].value : kPoison;
  }
  uint64_t lanes = 0;
  if (meeting.op == WarpOp::kBallot)
    for (unsigned other = 0; other < 32; ++other)
      if ((meeting.arrived >> other & 1) != 0 && threads_[first_thread + other].value != 0)
        lanes |= uint64_t{1} << other;
  return lanes;
}

unsigned BlockExecutor::active_mask() const {
  return 1u << current_->lane;
}

}  // namespace takt::emulated
