# Source this: . scripts/env.sh
# Lets mpirun work in containers and on small machines, and gives `takt_mpirun RANKS COMMAND...`.

# mpirun refuses root unless told twice; containers are root.
if [ "$(id -u)" -eq 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

# Threads that spin while they wait would take the core from the rank they wait for.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"

# Starts RANKS ranks on this host, more than it has cores if need be, and shares the cores among them.
takt_mpirun() {
  local ranks=$1 cores threads flags=(--bind-to none)
  shift
  cores=$(nproc)
  if ((ranks > cores)); then flags+=(--oversubscribe); fi
  threads=$((cores / ranks > 0 ? cores / ranks : 1))
  OMP_NUM_THREADS="${OMP_NUM_THREADS:-$threads}" mpirun -np "$ranks" "${flags[@]}" "$@"
}
