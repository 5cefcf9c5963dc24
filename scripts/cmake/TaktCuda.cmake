# TAKT_CUDA=ON: adds the .cu sources and the NVIDIA libraries to a target.
# sm_90 is H100, sm_100 is B200 and GB200, sm_120 is RTX PRO. Compiling needs no GPU.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 90 100 120)
endif()
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc speaks C++20
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
find_package(CUDAToolkit REQUIRED)

# NVIDIA ships neither library with a CMake config that is always there.
function(takt_find_nvidia name header library)
  find_path(${name}_INCLUDE_DIR ${header} HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(${name}_LIBRARY ${library} HINTS ${CUDAToolkit_LIBRARY_DIR})
  if(NOT ${name}_INCLUDE_DIR OR NOT ${name}_LIBRARY)
    message(FATAL_ERROR "TAKT_CUDA=ON needs ${name}: ${header} or lib${library}.so was not found.\n"
      "  Install it, or point -D${name}_INCLUDE_DIR= and -D${name}_LIBRARY= to it.")
  endif()
  add_library(takt_${library} UNKNOWN IMPORTED GLOBAL)
  set_target_properties(takt_${library} PROPERTIES
    IMPORTED_LOCATION ${${name}_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${${name}_INCLUDE_DIR})
endfunction()

function(takt_add_cuda target)
  takt_find_nvidia(NCCL nccl.h nccl)
  takt_find_nvidia(CUDNN cudnn.h cudnn)
  file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS
    ${PROJECT_SOURCE_DIR}/core/*.cu ${PROJECT_SOURCE_DIR}/collectives/*.cu ${PROJECT_SOURCE_DIR}/optimizers/*.cu)
  target_sources(${target} PRIVATE ${cuda_sources})
  target_compile_definitions(${target} PUBLIC TAKT_HAVE_CUDA TAKT_HAVE_NCCL)
  target_link_libraries(${target} PUBLIC CUDA::cudart CUDA::cublasLt takt_nccl takt_cudnn)
endfunction()
