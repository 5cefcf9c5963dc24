// TAKT_MPI, which turns an MPI return code into an Error, and owners of what MPI hands out.
// Only .cpp files of this folder include this: MPI stays behind Communicator and World.
#pragma once

// The C interface only: the C++ bindings left the standard in 2012 and would need a library of their own.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace takt {

// Throws kPeer with MPI's own description of `code` unless it is MPI_SUCCESS.
void require_mpi(int code, const char* call);
// Rank `rank` of `comm`, numbered over the whole run.
int run_rank_of(MPI_Comm comm, int rank);
// Whether MPI is initialised and not yet finalised.
bool is_mpi_running();

// Move-only. Empty at MPI_COMM_NULL; frees nothing after MPI_Finalize. Freeing waits for the group's other ranks.
class MpiComm {
 public:
  MpiComm() = default;
  explicit MpiComm(MPI_Comm comm) : comm_(comm) {}
  MpiComm(MpiComm&& other) noexcept : comm_(std::exchange(other.comm_, MPI_COMM_NULL)) {}
  MpiComm& operator=(MpiComm&& other) noexcept {
    if (this != &other) {
      reset();
      comm_ = std::exchange(other.comm_, MPI_COMM_NULL);
    }
    return *this;
  }
  MpiComm(const MpiComm&) = delete;
  MpiComm& operator=(const MpiComm&) = delete;
  ~MpiComm() { reset(); }

  MPI_Comm get() const { return comm_; }
  explicit operator bool() const { return comm_ != MPI_COMM_NULL; }
  void reset() noexcept;

 private:
  MPI_Comm comm_ = MPI_COMM_NULL;
};

// A window of shared memory: `num_bytes` of it belong to each rank of a group that is on one host. Rules as MpiComm's.
class MpiSharedWindow {
 public:
  MpiSharedWindow() = default;
  // Every rank of `comm` calls it.
  MpiSharedWindow(MPI_Comm comm, std::size_t num_bytes);
  MpiSharedWindow(MpiSharedWindow&& other) noexcept : window_(std::exchange(other.window_, MPI_WIN_NULL)) {}
  MpiSharedWindow& operator=(MpiSharedWindow&& other) noexcept {
    if (this != &other) {
      reset();
      window_ = std::exchange(other.window_, MPI_WIN_NULL);
    }
    return *this;
  }
  MpiSharedWindow(const MpiSharedWindow&) = delete;
  MpiSharedWindow& operator=(const MpiSharedWindow&) = delete;
  ~MpiSharedWindow() { reset(); }

  // Where this process sees the part of `rank`.
  std::byte* part(int rank) const;
  void reset() noexcept;

 private:
  MPI_Win window_ = MPI_WIN_NULL;
};

// What one group of ranks holds in MPI.
struct MpiGroup {
  MpiComm comm;
  MpiSharedWindow window;  // freed before the communicator it was made from
};

// All groups of one process. Communicators borrow their group from here, because freeing one waits for its
// other ranks: a communicator that goes out of scope while an error unwinds must not wait for peers that never come.
class MpiGroups {
 public:
  MpiGroups() = default;
  MpiGroups(const MpiGroups&) = delete;
  MpiGroups& operator=(const MpiGroups&) = delete;
  // Frees the newest first: an order on which all ranks agree, since they made the groups together.
  ~MpiGroups();

  // Errors on `comm` are returned, no longer fatal.
  MpiGroup& add(MpiComm comm);

  std::vector<std::string> hosts;  // names, of every rank of the run
  double peer_timeout_s = 600;     // how long a rank waits for a message of another
  std::string late;                // why no wait can succeed any more; empty: nobody was late

 private:
  std::vector<std::unique_ptr<MpiGroup>> groups_;
};

}  // namespace takt

#define TAKT_MPI(call) ::takt::require_mpi((call), #call)
