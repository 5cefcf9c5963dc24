// nccl: how groups of GPUs meet, and how a call of ours becomes calls of NCCL.
//
// The connections of a group are made by ncclCommSplit from the group it was split from, when it is first used: they take
// memory on the GPU and file descriptors, and not every group of a mesh is used. Everything is non-blocking, so that each
// wait has a deadline and can be ended by the monitor.
#include "collectives/nccl.h"

#include <nccl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "collectives/nccl_communicator.h"
#include "collectives/reduce.h"
#include "collectives/registry.h"
#include "collectives/share.h"
#include "core/base/error.h"

namespace takt {
namespace {

int to_nccl(NcclSettings::CtaPolicy policy) {
  switch (policy) {
    case NcclSettings::CtaPolicy::kDefault:
      return NCCL_CTA_POLICY_DEFAULT;
    case NcclSettings::CtaPolicy::kEfficiency:
      return NCCL_CTA_POLICY_EFFICIENCY;
    case NcclSettings::CtaPolicy::kZero:
      return NCCL_CTA_POLICY_ZERO;
  }
  fail(Fault::kBug, "nccl: unknown CTA policy");
}

// NCCL keeps the pointers to `settings.network` and `group`.
ncclConfig_t config_of(const NcclSettings& settings, const std::string& group) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.commName = group.c_str();
  config.splitShare = settings.share_resources ? 1 : 0;
  if (settings.min_ctas > 0) config.minCTAs = static_cast<int>(settings.min_ctas);
  if (settings.max_ctas > 0) config.maxCTAs = static_cast<int>(settings.max_ctas);
  if (settings.nvls_ctas > 0) config.nvlsCTAs = static_cast<int>(settings.nvls_ctas);
  if (settings.cga_cluster_size > 0) config.cgaClusterSize = settings.cga_cluster_size;
  if (settings.cta_policy != NcclSettings::CtaPolicy::kDefault)
    config.CTAPolicy = to_nccl(settings.cta_policy);
  if (settings.traffic_class >= 0) config.trafficClass = settings.traffic_class;
  if (!settings.network.empty()) config.netName = settings.network.c_str();
  return config;
}

// Ids are made by the first rank of each share of the ranks, where NCCL expects the socket to be near.
std::vector<ncclUniqueId> exchange_ids(Communicator& host, int ranks_per_id) {
  const int num_ids = (host.size() + ranks_per_id - 1) / ranks_per_id;
  const auto maker = [&](int id) {
    return slice_of(static_cast<std::size_t>(host.size()), id, num_ids).begin;
  };
  ncclUniqueId mine = {};
  for (int id = 0; id < num_ids; ++id)
    if (maker(id) == static_cast<std::size_t>(host.rank())) TAKT_NCCL(ncclGetUniqueId(&mine));
  std::vector<ncclUniqueId> all(static_cast<std::size_t>(host.size()));
  host.all_gather(&mine, all.data(), sizeof(mine), DType::kU8, {.value = "nccl: unique ids"});
  std::vector<ncclUniqueId> ids;
  for (int id = 0; id < num_ids; ++id) ids.push_back(all[maker(id)]);
  return ids;
}

std::string host_name() {
  std::array<char, 256> name = {};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "unknown host";
  return name.data();
}

// A domain is known by the lowest rank in it.
std::vector<int> domains_of_ranks(Communicator& host, const std::string& domain) {
  const std::vector<std::string> names = gather_texts(host, domain.empty() ? host_name() : domain);
  std::vector<std::int32_t> domains(static_cast<std::size_t>(host.size()));
  for (std::size_t rank = 0; rank < names.size(); ++rank)
    domains[rank] =
        static_cast<std::int32_t>(std::find(names.begin(), names.end(), names[rank]) - names.begin());
  host.broadcast(domains.data(), domains.size(), DType::kI32, 0, {.value = "nccl: NVLink domains"});
  return {domains.begin(), domains.end()};
}

// How many neighbours each domain has in the group; 0 where they are not equally many or not side by side, or where
// there is one domain only.
int ranks_per_domain(std::span<const int> domains) {
  const auto num = std::count(domains.begin(), domains.end(), domains[0]);
  const auto num_ranks = static_cast<std::ptrdiff_t>(domains.size());
  if (num == num_ranks || num_ranks % num != 0) return 0;
  for (std::ptrdiff_t rank = 0; rank < num_ranks; ++rank) {
    const int first = domains[static_cast<std::size_t>(rank / num * num)];
    const bool is_new = rank % num == 0 && std::count(domains.begin(), domains.begin() + rank, first) > 0;
    if (domains[static_cast<std::size_t>(rank)] != first || is_new) return 0;
  }
  return static_cast<int>(num);
}

}  // namespace

void release_device_word(void* word) noexcept {
  cudaFree(word);
}

NcclCommunicator::NcclCommunicator(std::unique_ptr<NcclRank> rank, std::unique_ptr<Communicator> host,
                                   CallSigner signer)
    : SignedCommunicator(std::move(signer)),
      owned_rank_(std::move(rank)),
      rank_(owned_rank_.get()),
      host_(std::move(host)),
      digest_(size()) {
  connection_.group = member().group;
  domains_ = domains_of_ranks(*host_, rank_->settings().domain);
}

NcclCommunicator::NcclCommunicator(NcclCommunicator& parent, std::unique_ptr<Communicator> host,
                                   CallSigner signer, int color)
    : SignedCommunicator(std::move(signer)),
      rank_(parent.rank_),
      parent_(&parent),
      color_(color),
      host_(std::move(host)),
      digest_(size()),
      domains_(static_cast<std::size_t>(size())) {
  connection_.group = member().group;
  const std::int32_t mine = parent.domains_[static_cast<std::size_t>(parent.rank())];
  std::vector<std::int32_t> all(domains_.size());
  host_->all_gather(&mine, all.data(), 1, DType::kI32, {.value = "nccl: NVLink domains"});
  std::copy(all.begin(), all.end(), domains_.begin());
}

// A rank that goes because of an error must not wait for peers, which may never come.
NcclCommunicator::~NcclCommunicator() {
  if (std::uncaught_exceptions() > num_exceptions_) abandon();
  inside_.reset();
  across_.reset();
  rank_->disconnect(connection_);
}

// ---- Connections ----

void NcclCommunicator::connect() {
  if (is_connected_) return;
  parent_ == nullptr ? connect_world() : connect_part();
  is_connected_ = true;
  if (size() == 1) return;
  void* word = nullptr;
  TAKT_CUDA(cudaMalloc(&word, sizeof(std::int32_t)));
  barrier_word_ = Owned<void*, release_device_word>(word);
  if (rank_->settings().reduces_by_domain && ranks_per_domain(domains_) > 1) connect_by_domain();
}

void NcclCommunicator::connect_world() {
  std::vector<ncclUniqueId> ids = exchange_ids(*host_, rank_->settings().ranks_per_id);
  ncclConfig_t config = config_of(rank_->settings(), connection_.group);
  const auto start = [&](ncclComm_t* comm) {
    if (ids.size() == 1) return ncclCommInitRankConfig(comm, size(), ids[0], rank(), &config);
    return ncclCommInitRankScalable(comm, size(), rank(), static_cast<int>(ids.size()), ids.data(), &config);
  };
  rank_->connect(connection_, nullptr, start);
}

void NcclCommunicator::connect_part() {
  parent_->connect();
  if (parent_->size() == 1) return;
  ncclConfig_t config = config_of(rank_->settings(), connection_.group);
  const int color = size() == 1 ? NCCL_SPLIT_NOCOLOR : color_;
  rank_->connect(connection_, &parent_->connection_, [&](ncclComm_t* comm) {
    return ncclCommSplit(parent_->connection_.comm, color, parent_->rank(), comm, &config);
  });
}

void NcclCommunicator::connect_by_domain() {
  const int num = ranks_per_domain(domains_);
  const auto part = [&](int color, const char* name) {
    const std::string group = concat(connection_.group, name);
    std::unique_ptr<Communicator> host = host_->split(color, group);
    GroupMember place = member();
    place.group = group;
    place.rank = host->rank();
    place.num_ranks = host->size();
    auto made = std::make_unique<NcclCommunicator>(*this, std::move(host), CallSigner(place), color);
    made->connect_part();
    made->is_connected_ = true;
    return made;
  };
  inside_ = part(rank() / num, " inside a domain");
  across_ = part(rank() % num, " across domains");
}

std::unique_ptr<Communicator> NcclCommunicator::split(int color, std::string_view name) {
  const Signature call = sign_split(color);
  if (rank_->settings().check == NcclSettings::Check::kEachCall) compare_call(*host_, call);
  digest_.add(call);
  std::unique_ptr<Communicator> host = host_->split(color, name);
  GroupMember place = member();
  place.group = name;
  place.rank = host->rank();
  place.num_ranks = host->size();
  return std::make_unique<NcclCommunicator>(*this, std::move(host), CallSigner(std::move(place)), color);
}

void NcclCommunicator::register_memory(void* memory, std::size_t num_bytes) {
  rank_->register_memory(memory, num_bytes);
}

void NcclCommunicator::note_launched(std::span<const Signature> calls, StreamHandle stream) {
  if (calls.empty()) return;
  rank_->monitor().track(calls, stream_of({.value = {}, .stream = stream}));
}

void NcclCommunicator::wait(StreamHandle stream) {
  rank_->wait(stream_of({.value = {}, .stream = stream}));
}

void NcclCommunicator::wait_until(const std::function<bool()>& is_done) {
  rank_->wait_until(is_done);
}

// Ranks may differ in calls because one of them is in trouble: its error comes first.
void NcclCommunicator::compare_calls() {
  rank_->monitor().require_peers();
  digest_.compare(*host_);
}

void NcclCommunicator::abandon() noexcept {
  rank_->monitor().fail_with(
      Error(Fault::kPeer, concat("rank ", member().run_rank, " has given up its calls")));
}

// ---- The backend ----

std::unique_ptr<DeviceCommunicator> make_nccl_communicator(const BackendRanks& ranks,
                                                           const NcclSettings& settings) {
  TAKT_REQUIRE(settings.ranks_per_id > 0, "nccl: ranks_per_id is ", settings.ranks_per_id,
               ", wanted 1 or more");
  std::unique_ptr<Communicator> host = ranks.control.split(0, "nccl");
  GroupMember member{.group = "world",
                     .rank = host->rank(),
                     .num_ranks = host->size(),
                     .run_rank = host->rank(),
                     .log = &ranks.log};
  auto rank = std::make_unique<NcclRank>(settings, host->rank(), ranks.log);
  auto world =
      std::make_unique<NcclCommunicator>(std::move(rank), std::move(host), CallSigner(std::move(member)));
  world->connect();
  return world;
}

std::unique_ptr<Communicator> make_nccl(const BackendRanks& ranks) {
  return make_nccl_communicator(ranks);
}

}  // namespace takt
