// Owners of MPI objects release them only while MPI runs: freeing after MPI_Finalize is an error that ends the process.
#include "collectives/mpi_call.h"

#include <array>
#include <string_view>

#include "core/base/error.h"

namespace takt {

void require_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text = {};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  const std::string_view function = std::string_view(call).substr(0, std::string_view(call).find('('));
  fail(Fault::kPeer, function, ": ", std::string_view(text.data(), static_cast<std::size_t>(length)));
}

int run_rank_of(MPI_Comm comm, int rank) {
  MPI_Group group = MPI_GROUP_NULL, run = MPI_GROUP_NULL;
  TAKT_MPI(MPI_Comm_group(comm, &group));
  TAKT_MPI(MPI_Comm_group(MPI_COMM_WORLD, &run));
  int run_rank = MPI_UNDEFINED;
  const int code = MPI_Group_translate_ranks(group, 1, &rank, run, &run_rank);
  MPI_Group_free(&group);
  MPI_Group_free(&run);
  require_mpi(code, "MPI_Group_translate_ranks");
  return run_rank;
}

bool is_mpi_running() {
  int is_initialized = 0;
  int is_finalized = 0;
  MPI_Initialized(&is_initialized);
  MPI_Finalized(&is_finalized);
  return is_initialized != 0 && is_finalized == 0;
}

// A destructor has nobody to tell, so codes are ignored here.
void MpiComm::reset() noexcept {
  MPI_Comm comm = std::exchange(comm_, MPI_COMM_NULL);
  if (comm != MPI_COMM_NULL && is_mpi_running()) MPI_Comm_free(&comm);
}

// Non-contiguous: every rank's part starts on a page of its own, near the core that uses it.
MpiSharedWindow::MpiSharedWindow(MPI_Comm comm, std::size_t num_bytes) {
  MPI_Info info = MPI_INFO_NULL;
  TAKT_MPI(MPI_Info_create(&info));
  MPI_Info_set(info, "alloc_shared_noncontig", "true");
  void* base = nullptr;
  const int code = MPI_Win_allocate_shared(static_cast<MPI_Aint>(num_bytes), 1, info, comm, &base, &window_);
  MPI_Info_free(&info);
  require_mpi(code, "MPI_Win_allocate_shared");
}

std::byte* MpiSharedWindow::part(int rank) const {
  MPI_Aint num_bytes = 0;
  int unit = 0;
  void* base = nullptr;
  TAKT_MPI(MPI_Win_shared_query(window_, rank, &num_bytes, &unit, &base));
  return static_cast<std::byte*>(base);
}

void MpiSharedWindow::reset() noexcept {
  MPI_Win window = std::exchange(window_, MPI_WIN_NULL);
  if (window != MPI_WIN_NULL && is_mpi_running()) MPI_Win_free(&window);
}

MpiGroups::~MpiGroups() {
  while (!groups_.empty()) groups_.pop_back();
}

MpiGroup& MpiGroups::add(MpiComm comm) {
  TAKT_MPI(MPI_Comm_set_errhandler(comm.get(), MPI_ERRORS_RETURN));
  groups_.push_back(std::make_unique<MpiGroup>());
  groups_.back()->comm = std::move(comm);
  return *groups_.back();
}

}  // namespace takt
