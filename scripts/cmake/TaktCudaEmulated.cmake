# TAKT_CUDA_EMULATED=ON: compiles the CUDA sources, .cu too, with the C++ compiler and the real headers, against the
# emulated device of tests/emulated instead of NVIDIA's libraries. A test instrument: nothing of it ships.
include(TaktNvidia)

# The CUDA sources of a library. The kernels are a library of their own: see tests/emulated/CMakeLists.txt.
function(takt_add_cuda target)
  target_compile_definitions(${target} PUBLIC TAKT_HAVE_CUDA TAKT_CUDA_EMULATED)
  target_include_directories(${target} SYSTEM PUBLIC
    ${CUDAToolkit_INCLUDE_DIRS} ${NCCL_INCLUDE_DIR} ${CUDNN_INCLUDE_DIR})
  add_subdirectory(${PROJECT_SOURCE_DIR}/tests/emulated)
endfunction()

# `interface` links the library whole, since the kernels call back into it.
function(takt_link_emulated interface library)
  target_link_libraries(${interface} INTERFACE
    $<LINK_LIBRARY:WHOLE_ARCHIVE,${library}> takt_emulated_kernels takt_emulated_device ${CMAKE_DL_LIBS})
endfunction()
