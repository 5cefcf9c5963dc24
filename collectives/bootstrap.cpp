// Starts MPI, checks that the launcher and MPI mean the same run, and finds out which ranks share a host.
#include "collectives/bootstrap.h"

#include <unistd.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "collectives/mpi.h"
#include "collectives/mpi_call.h"
#include "core/base/error.h"

namespace takt {
namespace {

std::optional<int> number_in_environment(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  const std::string_view digits(text);
  int number = 0;
  const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (code != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

std::string processor_name() {
  std::array<char, MPI_MAX_PROCESSOR_NAME> text = {};
  int length = 0;
  TAKT_MPI(MPI_Get_processor_name(text.data(), &length));
  return std::string(text.data(), static_cast<std::size_t>(length));
}

void require_ranks(std::optional<int> num_started, std::string_view launcher, std::string_view variable,
                   int num_mpi_ranks) {
  if (!num_started || *num_started == num_mpi_ranks) return;
  fail(Fault::kPeer, "launcher: ", launcher, " started ", *num_started, " ranks (", variable,
       "), but MPI sees ", num_mpi_ranks,
       "\n  each would train alone: start with `srun --mpi=pmix`, or with the mpirun of the MPI that takt "
       "was built with");
}

// One board for the ranks of a host. Its name lasts until all have opened it.
std::unique_ptr<HostBoard> shared_board(MPI_Comm on_host) {
  int rank = 0, num_ranks = 1;
  TAKT_MPI(MPI_Comm_rank(on_host, &rank));
  TAKT_MPI(MPI_Comm_size(on_host, &num_ranks));
  std::array<char, 64> name = {};
  std::unique_ptr<HostBoard> board;
  if (rank == 0) {
    const auto now = std::chrono::system_clock::now().time_since_epoch().count();
    concat("/takt-", ::getpid(), "-", now).copy(name.data(), name.size() - 1);
    board = std::make_unique<HostBoard>(name.data(), num_ranks, true);
  }
  TAKT_MPI(MPI_Bcast(name.data(), static_cast<int>(name.size()), MPI_CHAR, 0, on_host));
  if (rank != 0) board = std::make_unique<HostBoard>(name.data(), num_ranks, false);
  TAKT_MPI(MPI_Barrier(on_host));
  if (rank == 0) HostBoard::unlink(name.data());
  return board;
}

// Hosts are numbered in the order of their lowest ranks.
int host_number(MPI_Comm on_host) {
  int rank = 0;
  TAKT_MPI(MPI_Comm_rank(on_host, &rank));
  int number = rank == 0 ? 1 : 0;
  TAKT_MPI(MPI_Scan(MPI_IN_PLACE, &number, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD));
  TAKT_MPI(MPI_Bcast(&number, 1, MPI_INT, 0, on_host));
  return number - 1;
}

}  // namespace

// "Open MPI v4.1.4, package: Debian OpenMPI, ..." is "Open MPI 4.1.4".
std::string mpi_library_name() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text = {};
  int length = 0;
  TAKT_MPI(MPI_Get_library_version(text.data(), &length));
  std::string name(text.data(), static_cast<std::size_t>(length));
  name = name.substr(0, name.find_first_of(",\n"));
  if (const std::size_t at = name.find(" v"); at != std::string::npos) name.erase(at + 1, 1);
  return name;
}

LauncherView launcher_view() {
  return {.open_mpi_ranks = number_in_environment("OMPI_COMM_WORLD_SIZE"),
          .pmi_ranks = number_in_environment("PMI_SIZE"),
          .slurm_step = number_in_environment("SLURM_STEP_ID"),
          .slurm_task = number_in_environment("SLURM_PROCID"),
          .slurm_step_tasks = number_in_environment("SLURM_STEP_NUM_TASKS")};
}

// The innermost launcher decides: inside a Slurm job, mpirun starts its own daemons as a step of one task a
// node, and the ranks inherit that step's variables.
void check_launcher(const LauncherView& launcher, int num_mpi_ranks) {
  if (launcher.open_mpi_ranks)
    return require_ranks(launcher.open_mpi_ranks, "Open MPI's mpirun", "OMPI_COMM_WORLD_SIZE", num_mpi_ranks);
  if (launcher.pmi_ranks)
    return require_ranks(launcher.pmi_ranks, "mpiexec or srun", "PMI_SIZE", num_mpi_ranks);
  const bool is_slurm_task = launcher.slurm_step && launcher.slurm_task;
  if (is_slurm_task) require_ranks(launcher.slurm_step_tasks, "srun", "SLURM_STEP_NUM_TASKS", num_mpi_ranks);
}

World::MpiRuntime::MpiRuntime(int argc, char** argv) {
  if (is_mpi_running()) return;
  int is_finalized = 0;
  MPI_Finalized(&is_finalized);
  TAKT_REQUIRE(is_finalized == 0, "World: MPI has been finalized, and a process cannot start it again");
  int provided = MPI_THREAD_SINGLE;
  TAKT_MPI(MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided));
  TAKT_MPI(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  is_ours_ = true;
}

World::MpiRuntime::~MpiRuntime() {
  if (is_ours_ && is_mpi_running()) MPI_Finalize();
}

World::World(int argc, char** argv)
    : runtime_(argc, argv),
      groups_(std::make_unique<MpiGroups>()),
      host_(processor_name()),
      launcher_(mpi_library_name()) {
  int num_ranks = 0;
  TAKT_MPI(MPI_Comm_size(MPI_COMM_WORLD, &num_ranks));
  check_launcher(launcher_view(), num_ranks);
  comm_ = make_mpi_communicator(*groups_, calls_);
  find_hosts();
}

// The record closes behind MPI_Finalize, with the watchdog.
World::~World() {
  calls_.note_progress({.doing = "the end of the run"}, true);
}

std::unique_ptr<World> World::start(int argc, char** argv) {
  return std::unique_ptr<World>(new World(argc, argv));
}

void World::find_hosts() {
  MPI_Comm on_host = MPI_COMM_NULL;
  TAKT_MPI(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &on_host));
  const MpiComm owned(on_host);
  TAKT_MPI(MPI_Comm_rank(on_host, &local_rank_));
  TAKT_MPI(MPI_Comm_size(on_host, &ranks_on_host_));
  const int is_first_on_host = local_rank_ == 0 ? 1 : 0;
  TAKT_MPI(MPI_Allreduce(&is_first_on_host, &num_hosts_, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD));
  host_number_ = takt::host_number(on_host);
  start_watchdog(shared_board(on_host), host_number_);
}

void World::start_watchdog(std::unique_ptr<HostBoard> board, int host) {
  board_ = std::move(board);
  calls_.show_in(board_->rank(local_rank_).open(rank()));
  HostPlace place{.host = host, .num_hosts = num_hosts_, .num_ranks = size()};
  host_.copy(place.name.data(), place.name.size() - 1);
  watchdog_ = std::make_unique<Watchdog>(*board_, place);
}

void World::set_peer_timeout(double time_s) {
  groups_->peer_timeout_s = time_s;
}

void World::abort(int exit_code) {
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);  // not reached, but MPI_Abort is not declared so
}

}  // namespace takt
