# takt_nccl_tests: collectives/nccl*.cpp on the double of NCCL. The sources of the library that need NVIDIA's headers are
# compiled here, with the emulated device's flags, so that a CPU build tests them.
if(NOT EXISTS ${TAKT_CUDA_HEADERS}/nccl.h)
  return()
endif()
file(GLOB nccl_test_sources CONFIGURE_DEPENDS nccl*_test.cpp)
file(GLOB nccl_backend_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/collectives/nccl*.cpp)
set(nccl_device_sources ${PROJECT_SOURCE_DIR}/core/device/cuda/error.cpp
  ${PROJECT_SOURCE_DIR}/core/device/cuda/event.cpp ${PROJECT_SOURCE_DIR}/core/device/cuda/graph.cpp
  ${PROJECT_SOURCE_DIR}/core/device/cuda/stream.cpp)
add_executable(takt_nccl_tests ${nccl_test_sources} ${nccl_backend_sources} ${nccl_device_sources})
target_link_libraries(takt_nccl_tests PRIVATE takt_emulated_device takt_lib GTest::gtest GTest::gmock GTest::gtest_main)
target_compile_options(takt_nccl_tests PRIVATE -O1)
foreach(run "eager;1" "lazy;1" "priority;1" "priority;2")
  list(GET run 0 schedule)
  list(GET run 1 seed)
  add_test(NAME nccl_tests_${schedule}_${seed} COMMAND takt_nccl_tests WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(nccl_tests_${schedule}_${seed} PROPERTIES TIMEOUT 300
    ENVIRONMENT "OMP_NUM_THREADS=1;TAKT_EMULATED_SCHEDULE=${schedule};TAKT_EMULATED_SEED=${seed}")
endforeach()

# Ranks that are processes and meet through MPI, as in a real run.
add_executable(takt_nccl_application mpi_nccl_application.cpp ${nccl_backend_sources} ${nccl_device_sources})
target_link_libraries(takt_nccl_application PRIVATE takt_emulated_device takt_lib)
if(NOT TAKT_SANITIZE MATCHES "thread")
  add_test(NAME nccl_application_3_ranks
    COMMAND ${MPIEXEC_EXECUTABLE} -np 3 --oversubscribe $<TARGET_FILE:takt_nccl_application>)
  set_tests_properties(nccl_application_3_ranks PROPERTIES TIMEOUT 120 PROCESSORS 2
    ENVIRONMENT "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;OMP_NUM_THREADS=1;ASAN_OPTIONS=detect_leaks=0")
endif()
