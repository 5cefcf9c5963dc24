# TAKT_CUDA_EMULATED=ON: compiles the CUDA sources, .cu too, with the C++ compiler and the real headers, against the
# emulated device of tests/emulated instead of NVIDIA's libraries. A test instrument: nothing of it ships.
include(TaktNvidia)

add_library(takt_nvidia_headers INTERFACE)
target_include_directories(takt_nvidia_headers SYSTEM INTERFACE
  ${CUDAToolkit_INCLUDE_DIRS} ${NCCL_INCLUDE_DIR} ${CUDNN_INCLUDE_DIR})

# The .cpp files among the CUDA sources, as part of the library. Its kernels are in tests/emulated/CMakeLists.txt.
function(takt_add_cuda target)
  target_compile_definitions(${target} PUBLIC TAKT_HAVE_CUDA TAKT_CUDA_EMULATED)
  target_link_libraries(${target} PUBLIC takt_nvidia_headers ${CMAKE_DL_LIBS})
  add_subdirectory(${PROJECT_SOURCE_DIR}/tests/emulated)
endfunction()

# `interface` links the library whole: the kernels are a shared library and call back into it.
function(takt_link_emulated interface library)
  target_link_libraries(${interface} INTERFACE
    $<LINK_LIBRARY:WHOLE_ARCHIVE,${library}> takt_emulated_kernels takt_emulated_device)
endfunction()
