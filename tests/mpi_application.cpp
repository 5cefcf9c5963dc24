// An application that has started MPI itself and uses Takt's ranks, twice, between its own calls. MPI is the
// application's before, between and after. Run under mpirun by ctest; exits 0 if all of that held.
#include <mpi.h>

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>

#include "collectives/bootstrap.h"

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::cerr << "mpi_application: not so: " << what << std::endl;
  MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
}

void use_takt(int num_ranks) {
  const std::unique_ptr<takt::World> world = takt::World::start();
  require(world->size() == num_ranks, "World has the application's ranks");
  const auto group = world->comm().split(world->rank() % 2, "half");
  std::int32_t total = 1;
  group->all_reduce(&total, 1, takt::DType::kI32, takt::ReduceOp::kSum, {.value = "ones"});
  require(total == group->size(), "a group adds up");
}

bool has_own_error_handler() {
  MPI_Errhandler handler = MPI_ERRHANDLER_NULL;
  MPI_Comm_get_errhandler(MPI_COMM_WORLD, &handler);
  return handler == MPI_ERRORS_ARE_FATAL;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0, num_ranks = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &num_ranks);
  for (int use = 0; use < 2; ++use) {
    use_takt(num_ranks);
    int is_finalized = 1;
    MPI_Finalized(&is_finalized);
    require(is_finalized == 0, "MPI goes on when World ends");
    require(has_own_error_handler(), "the application's error handler is untouched");
    int sum = 0;
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    require(sum == num_ranks * (num_ranks - 1) / 2, "the application's own calls work");
  }
  MPI_Finalize();
  return EXIT_SUCCESS;
}
