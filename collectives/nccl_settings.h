// NcclSettings: what Takt asks of NCCL, and why. Plain, so that any build can hold it.
#pragma once

#include <cstdint>
#include <string>

namespace takt {

// Zero or empty: NCCL decides.
struct NcclSettings {
  // When signatures of calls are compared. kEachStep costs one small host message a group and step, in the shadow of the
  // GPU; but a mismatch has then already hung or mixed up the GPUs, and the text comes beside a hang. kEachCall finds it
  // before anything is queued, at a host message a call: for debugging.
  enum class Check { kEachStep, kEachCall };

  // How memory given to register_memory becomes known to NCCL. kLocal: network cards and peers reach it directly, which
  // saves the copies through NCCL's own buffers and with them multiprocessors (user buffer registration). kSymmetric: the
  // same, at the same place on all ranks, for the kernels that use multimem instructions of the NVLink switch and need few
  // multiprocessors; wants memory of ncclMemAlloc (ArenaKind::kRegistrable). kNone: for looking whether registration is to blame.
  enum class Registration { kNone, kLocal, kSymmetric };

  // What NCCL weighs a call by. kEfficiency: fewer multiprocessors where bandwidth allows, for calls that run beside
  // matmuls. kZero: copy engines instead of multiprocessors where the memory is registered symmetrically.
  enum class CtaPolicy { kDefault, kEfficiency, kZero };

  double connect_timeout_s =
      300;                      // a thousand ranks meet in tens of seconds; what takes longer is a firewall
  double call_timeout_s = 540;  // 0.9 of guard.hang_timeout: the error comes before the watchdog's end

  // Ranks that meet through one unique id. One id is one socket that all connect to, and its rank becomes slow from some
  // hundreds of ranks on; each further id takes its share.
  int ranks_per_id = 128;

  // Multiprocessors that a call may take: each is one less for the matmuls beside it. The schedule's budget goes here; too
  // few cost bandwidth.
  std::int64_t min_ctas = 0, max_ctas = 0;
  // The same for calls that the NVLink switch reduces, which reach full bandwidth with fewer.
  std::int64_t nvls_ctas = 0;
  // Blocks that are placed together, so that the matmuls' clusters find whole processor groups free.
  int cga_cluster_size = 0;
  CtaPolicy cta_policy = CtaPolicy::kDefault;

  // Groups split from others share their buffers and proxy threads: memory does not grow with the number of groups. Calls
  // on such groups must not run at the same time in different orders, which our schedule rules out.
  bool share_resources = true;
  int traffic_class = -1;    // of the network, so that switches can tell tensor from data traffic; -1: NCCL's
  std::string network = "";  // "IB", "Socket": where NCCL would pick the wrong one

  Registration registration = Registration::kLocal;

  // An all-reduce over several NVLink domains: reduce-scatter inside the domain, all-reduce of each rank's share across,
  // all-gather inside; each network card moves 1/n of the data. Where every domain has as many ranks of the group, side by
  // side. Off: NCCL's own trees do alike inside a host, so that this pays where domains span hosts or NCCL picks badly.
  bool reduces_by_domain = false;
  // Which NVLink domain this rank is in; any text, the same for ranks of one domain. Empty: its host.
  std::string domain = "";

  Check check = Check::kEachStep;
};

}  // namespace takt
