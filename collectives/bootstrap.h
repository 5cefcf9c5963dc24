// Bootstrap: how the ranks of a run find each other.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "collectives/agree.h"
#include "collectives/communicator.h"
#include "collectives/signature.h"
#include "collectives/watchdog.h"

namespace takt {

class MpiGroups;

// What the launcher tells each process through the environment, the launchers' interface. Empty: not set.
struct LauncherView {
  std::optional<int> open_mpi_ranks = {};  // OMPI_COMM_WORLD_SIZE
  std::optional<int> pmi_ranks = {};       // PMI_SIZE: MPICH, Intel MPI, srun --mpi=pmi2
  std::optional<int> slurm_step = {};      // SLURM_STEP_ID
  std::optional<int> slurm_task = {};      // SLURM_PROCID
  // SLURM_STEP_NUM_TASKS; SLURM_NTASKS is also set where no step runs.
  std::optional<int> slurm_step_tasks = {};
};
LauncherView launcher_view();

// The MPI library, such as "Open MPI 4.1.4". May be called before World starts.
std::string mpi_library_name();

// Throws kPeer, with both numbers and the fix, if the launcher started another number of ranks than MPI sees:
// a launcher that does not fit the MPI library silently starts N runs of one rank each.
void check_launcher(const LauncherView& launcher, int num_mpi_ranks);

// The ranks of one run. Lives outside main's try block, because its end waits for all other ranks: a rank
// that fails alone calls abort() instead.
class World {
 public:
  // Every process of the run calls it, before any other thread is started. A process without a launcher is a
  // run of one rank. In an application that has called MPI_Init itself, the ranks are those of its
  // MPI_COMM_WORLD, and MPI goes on when World ends. Throws kPeer if the launcher does not fit.
  static std::unique_ptr<World> start(int argc = 0, char** argv = nullptr);
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World();

  int rank() const { return comm_->rank(); }
  int size() const { return comm_->size(); }
  const std::string& host() const { return host_; }
  int local_rank() const { return local_rank_; }  // among the ranks on this host
  int ranks_on_host() const { return ranks_on_host_; }
  int num_hosts() const { return num_hosts_; }
  int host_number() const { return host_number_; }           // from 0; the same for the ranks of one host
  const std::string& launcher() const { return launcher_; }  // the MPI library: "Open MPI 4.1.4"

  // Over all ranks. What is split from it must not outlive World.
  Communicator& comm() { return *comm_; }
  // The last calls of this rank, for reports. May be read from another thread.
  CallLog& calls() { return calls_; }
  // Watches from the start of World to behind the end of MPI.
  Watchdog& watchdog() { return *watchdog_; }

  // How long a wait for a rank on another host may take before it is an Error(kPeer) that names the host.
  void set_peer_timeout(double time_s);

  // Ends all ranks, whatever they wait for.
  [[noreturn]] void abort(int exit_code);

 private:
  // Between MPI_Init and MPI_Finalize, unless those are the application's.
  class MpiRuntime {
   public:
    MpiRuntime(int argc, char** argv);
    MpiRuntime(const MpiRuntime&) = delete;
    MpiRuntime& operator=(const MpiRuntime&) = delete;
    ~MpiRuntime();

   private:
    bool is_ours_ = false;
  };

  World(int argc, char** argv);
  void find_hosts();
  void start_watchdog(std::unique_ptr<HostBoard> board, int host);

  std::unique_ptr<HostBoard> board_;
  std::unique_ptr<Watchdog> watchdog_;  // before MPI, whose end is a wait for others too
  MpiRuntime runtime_;                  // before all else that is released before MPI_Finalize
  CallLog calls_;
  std::unique_ptr<MpiGroups> groups_;
  std::unique_ptr<Communicator> comm_;
  std::string host_;
  std::string launcher_;
  int local_rank_ = 0;
  int ranks_on_host_ = 1;
  int num_hosts_ = 1;
  int host_number_ = 0;
};

}  // namespace takt
