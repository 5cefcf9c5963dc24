// Communicator: a group of ranks that exchange buffers. Backends: local (threads), mpi (processes), nccl (GPUs).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/base/tensor.h"

namespace takt {

enum class ReduceOp : std::uint8_t { kSum, kMax };
std::string_view name_of(ReduceOp op);

// Where a call is queued. CPU backends have one implicit stream, on which a call is done when it returns.
using StreamHandle = void*;

// What a call is for: the value whose data moves, so that errors can name it, and the stream it is queued on.
struct CallSite {
  std::string_view value;         // borrowed: must outlive the call
  StreamHandle stream = nullptr;  // null: the backend's own stream
};

// What a rank does between its calls, as a report of a hang names it.
struct Progress {
  std::string_view doing;  // "reading data"; borrowed for the call
  std::int64_t step = 0;   // from 1; 0: as before
};

// Every rank of the group makes the same calls in the same order, with the same counts, types and operations.
// A rank that does not is an Error(kPeer) on every rank, with both signatures, before any result is used.
// Reductions add along one binary tree over the ranks (reduce.h): the same bits on every rank, backend and run.
// Counts are elements. Send and receive buffers of one call must not overlap unless the call says "in place".
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual std::string_view backend() const = 0;  // its name in the registry
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // In place: buffer[i] becomes the reduction over ranks.
  virtual void all_reduce(void* buffer, std::size_t num_elements, DType dtype, ReduceOp op,
                          const CallSite& at) = 0;
  // receive: size() x num_elements, the ranks' send buffers in rank order.
  virtual void all_gather(const void* send, void* receive, std::size_t num_elements, DType dtype,
                          const CallSite& at) = 0;
  // send: size() x num_elements; rank r receives the reduction of everybody's r-th part.
  virtual void reduce_scatter(const void* send, void* receive, std::size_t num_elements, DType dtype,
                              ReduceOp op, const CallSite& at) = 0;
  // send, receive: size() x num_elements; part r goes to rank r, and part r came from rank r.
  virtual void all_to_all(const void* send, void* receive, std::size_t num_elements, DType dtype,
                          const CallSite& at) = 0;
  // In place: everybody's buffer becomes the root's.
  virtual void broadcast(void* buffer, std::size_t num_elements, DType dtype, int root,
                         const CallSite& at) = 0;
  // Point to point. Only the two ranks call; a pair's messages arrive in order.
  virtual void send(const void* buffer, std::size_t num_elements, DType dtype, int to,
                    const CallSite& at) = 0;
  virtual void receive(void* buffer, std::size_t num_elements, DType dtype, int from, const CallSite& at) = 0;
  virtual void barrier(const CallSite& at) = 0;

  // Every rank of this group calls it. Ranks with the same color form a new group, ordered by their rank here.
  virtual std::unique_ptr<Communicator> split(int color, std::string_view name) = 0;

  // Shows the watchdog that this rank moves on, and what it does from here to its next call or note. No
  // communication; costs tens of nanoseconds. Whoever computes for long without a call notes as it goes.
  virtual void note_progress(const Progress&) {}
};

}  // namespace takt
