// DeviceCommunicator: a Communicator whose calls are queued on streams of a GPU and run later.
//
// The calls are Communicator's: an op knows nothing of the difference, it passes the stream in CallSite. What only a queue
// has is here and not in Communicator, because no CPU backend could give it a meaning: launching several calls together,
// errors that come after the call returned, and memory that the network card must know.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/signature.h"

namespace takt {

// Buffers are memory of the rank's GPU. A call returns once it is queued: its result is there for what is queued behind it
// on the same stream, and for the host after wait(). A barrier holds back the stream, not the host. A call on a stream
// that is being captured becomes part of the graph.
//
// Calls that do not fit cannot be found before they run: ranks compare them in compare_calls, and whoever waits for a
// call that never finishes gets Error(kPeer) that names it.
//
// One thread makes a rank's calls. After an error the communicators of the rank are of no more use.
class DeviceCommunicator : public Communicator {
 public:
  // Makes the group's connections, which otherwise the first call on it does: every rank of the communicator that it was
  // split from must come to that point, also those alone in their group. A call to be captured needs it done before.
  // Waits on the host. Throws kPeer if not all have come within the deadline.
  virtual void connect() = 0;

  // Calls that `calls` makes on any communicators of this rank are launched together: one launch instead of many, and
  // messages both ways that would wait for each other one by one. None of them may use another one's result. If `calls`
  // throws, none is launched.
  virtual void launch_together(const std::function<void()>& calls) = 0;

  // Lets the GPUs and network cards of the group move [memory, memory + num_bytes) without copies in between, for all
  // groups of this rank, as the settings say. Every rank calls it with the same size, before the calls that use the
  // memory, which outlives the communicators.
  virtual void register_memory(void* memory, std::size_t num_bytes) = 0;

  // The calls of this rank, on any of its communicators, that were captured since this was last asked: those of one graph.
  virtual std::vector<Signature> take_captured() = 0;
  // A graph with these calls was launched on `stream`: from now on they have the deadline of calls that were queued.
  virtual void note_launched(std::span<const Signature> calls, StreamHandle stream) = 0;

  // Waits on the host for all that is queued on `stream`. Throws kPeer, naming a call, if a peer failed or did not come
  // within the deadline, and then waits no longer.
  virtual void wait(StreamHandle stream) = 0;
  // The same until `is_done` says so of something that was queued.
  virtual void wait_until(const std::function<bool()>& is_done) = 0;

  // Every rank of the group calls it, between steps; the GPU goes on. Throws kPeer, with both signatures and on every
  // rank, unless all have made the same calls since the last time.
  virtual void compare_calls() = 0;

  // Throws the failure that was found since, if there is one. Costs tens of nanoseconds.
  virtual void require_peers() = 0;

  // Ends all calls of this rank, whatever they wait for; peers get no more answers. For a rank that fails alone.
  virtual void abandon() noexcept = 0;
};

}  // namespace takt
