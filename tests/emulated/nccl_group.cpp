// Sends and receives of one communicator become one operation. Calls of one group run at the same time on a real GPU: if
// one uses what another one writes, that is diagnosed here, since the double runs them one by one and would hide it.
#include "tests/emulated/nccl_group.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "tests/emulated/diagnosis.h"
#include "tests/emulated/nccl_reduce.h"

namespace takt::emulated {
namespace {

constexpr std::size_t kMostCompared = 64;  // calls; comparing is quadratic

struct Bytes {
  const std::byte* begin = nullptr;
  std::size_t num = 0;
  bool overlaps(const Bytes& other) const {
    return begin < other.begin + other.num && other.begin < begin + num;
  }
};

struct Touched {
  std::vector<Bytes> read, written;
};

Touched touched(const Batch::Call& call) {
  const CallRecord& record = call.work.call;
  Touched all;
  for (const Message& message : call.work.messages)
    (message.is_send ? all.read : all.written).push_back({message.data, message.num_bytes});
  if (record.kind == Kind::kMessages) return all;
  const std::size_t one = record.count * element_bytes(static_cast<ncclDataType_t>(record.type));
  const std::size_t every = one * static_cast<std::size_t>(call.comm->num_ranks());
  const bool sends_all = record.kind == Kind::kReduceScatter || record.kind == Kind::kAllToAll;
  const bool receives_all = record.kind == Kind::kAllGather || record.kind == Kind::kAllToAll;
  all.read.push_back({static_cast<const std::byte*>(call.work.send), sends_all ? every : one});
  all.written.push_back({static_cast<const std::byte*>(call.work.receive), receives_all ? every : one});
  return all;
}

bool any_overlap(const std::vector<Bytes>& a, const std::vector<Bytes>& b) {
  return std::any_of(a.begin(), a.end(), [&](const Bytes& one) {
    return std::any_of(b.begin(), b.end(), [&](const Bytes& other) { return one.overlaps(other); });
  });
}

void check_independence(const std::vector<Batch::Call>& calls) {
  if (calls.size() < 2 || calls.size() > kMostCompared) return;
  std::vector<Touched> all;
  for (const Batch::Call& call : calls) all.push_back(touched(call));
  for (std::size_t i = 0; i < all.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) {
      if (!any_overlap(all[i].written, all[j].read) && !any_overlap(all[i].read, all[j].written) &&
          !any_overlap(all[i].written, all[j].written))
        continue;
      diagnose(std::string("ncclGroupEnd: ") + name_of(calls[j].work.call.kind) + " and " +
               name_of(calls[i].work.call.kind) + " of " + calls[i].comm->name() +
               " are in one group and use the same memory: they run at the same time");
      return;
    }
}

// Joins the messages of each communicator, at the place of its first one.
void fuse_messages(std::vector<Batch::Call>& calls) {
  std::vector<Batch::Call> fused;
  for (Batch::Call& call : calls) {
    const auto same = std::find_if(fused.begin(), fused.end(), [&](const Batch::Call& other) {
      return other.comm == call.comm && other.work.call.kind == Kind::kMessages;
    });
    if (call.work.call.kind != Kind::kMessages || same == fused.end()) {
      fused.push_back(std::move(call));
      continue;
    }
    if (same->stream != call.stream)
      forbidden("NCCL double: messages of one communicator and group on several streams");
    same->work.messages.insert(same->work.messages.end(), call.work.messages.begin(),
                               call.work.messages.end());
    if (call.work.fault) same->work.fault = call.work.fault;
  }
  calls = std::move(fused);
}

// All at once, since each waits for the others.
ncclResult_t run_inits(std::vector<std::function<ncclResult_t()>> inits) {
  std::vector<ncclResult_t> results(inits.size(), ncclSuccess);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < inits.size(); ++i) threads.emplace_back([&, i] { results[i] = inits[i](); });
  for (std::thread& thread : threads) thread.join();
  const auto failed =
      std::find_if(results.begin(), results.end(), [](ncclResult_t result) { return result != ncclSuccess; });
  return failed == results.end() ? ncclSuccess : *failed;
}

ncclResult_t launch_calls(std::vector<Batch::Call> calls) {
  if (calls.empty()) return ncclSuccess;
  check_independence(calls);
  fuse_messages(calls);
  const bool blocks = calls.front().comm->blocks();
  auto batch = std::make_shared<Batch>(Batch{std::move(calls), std::this_thread::get_id()});
  for (const Batch::Call& call : batch->calls)
    if (call.comm->blocks() != blocks) {
      diagnose("ncclGroupEnd: communicators that block and that do not are in one group");
      return ncclInvalidUsage;
    }
  if (blocks) return launch(*batch);
  for (const Batch::Call& call : batch->calls) call.comm->set_late(batch);
  return ncclInProgress;
}

}  // namespace

Group& group() {
  thread_local Group of_thread;
  return of_thread;
}

ncclResult_t launch(Batch& batch) {
  ncclResult_t result = ncclSuccess;
  for (Batch::Call& call : batch.calls) {
    const ncclResult_t queued =
        call.comm->queue(call.stream, std::make_shared<const Work>(std::move(call.work)));
    if (result == ncclSuccess) result = queued;
  }
  return result;
}

ncclResult_t add_call(Batch::Call call) {
  group().calls.push_back(std::move(call));
  if (group().depth > 0) return ncclSuccess;
  return launch_calls(std::exchange(group().calls, {}));
}

ncclResult_t end_group() {
  if (group().depth == 0) {
    diagnose("ncclGroupEnd without ncclGroupStart");
    return ncclInvalidUsage;
  }
  if (--group().depth > 0) return ncclSuccess;
  for (const std::shared_ptr<Comm>& comm : std::exchange(group().aborted, {})) comm->end_abort();
  const ncclResult_t made = run_inits(std::exchange(group().inits, {}));
  const ncclResult_t launched = launch_calls(std::exchange(group().calls, {}));
  return made != ncclSuccess ? made : launched;
}

}  // namespace takt::emulated
