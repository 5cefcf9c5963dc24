# TAKT_CUDA=ON: adds the .cu sources and the NVIDIA libraries to a target. Compiling needs no GPU.
# sm_90 is H100, sm_100 is B200 and GB200, sm_120 is RTX PRO: machine code for each, and once the source of the newest for
# what comes after it.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 90-real 100-real 120)
endif()
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)  # or nvcc links a second, static one
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc speaks C++20
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
include(TaktNvidia)

function(takt_add_cuda target)
  takt_find_nvidia_library(NCCL nccl)
  takt_find_nvidia_library(CUDNN cudnn)
  target_sources(${target} PRIVATE ${takt_cuda_sources})
  target_compile_definitions(${target} PUBLIC TAKT_HAVE_CUDA)
  # A kernel that spills registers is an error: scripts/ptxas_report.py says more of it.
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:-lineinfo> $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-warn-spills,-Werror>)
  target_link_libraries(${target} PUBLIC CUDA::cudart CUDA::cublasLt takt_nccl takt_cudnn ${CMAKE_DL_LIBS})
endfunction()
