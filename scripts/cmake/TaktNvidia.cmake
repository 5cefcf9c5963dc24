# What both ways to compile the CUDA sources need: the list of them, the toolkit, and the headers of NCCL and cuDNN, for
# which NVIDIA ships no CMake config that is always there.
find_package(CUDAToolkit 12.8 REQUIRED)  # the first that knows sm_100 and sm_120

file(GLOB_RECURSE takt_cuda_sources CONFIGURE_DEPENDS
  ${PROJECT_SOURCE_DIR}/core/*.cu ${PROJECT_SOURCE_DIR}/collectives/*.cu ${PROJECT_SOURCE_DIR}/optimizers/*.cu)

function(takt_find_nvidia_header name header)
  find_path(${name}_INCLUDE_DIR ${header} HINTS ${CUDAToolkit_INCLUDE_DIRS})
  if(NOT ${name}_INCLUDE_DIR)
    message(FATAL_ERROR "Building the CUDA sources needs ${name}: ${header} was not found.\n"
      "  Install it, or point -D${name}_INCLUDE_DIR= to it.")
  endif()
endfunction()
takt_find_nvidia_header(NCCL nccl.h)
takt_find_nvidia_header(CUDNN cudnn.h)

# Makes takt_<library> of a library whose header was found.
function(takt_find_nvidia_library name library)
  find_library(${name}_LIBRARY ${library} HINTS ${CUDAToolkit_LIBRARY_DIR})
  if(NOT ${name}_LIBRARY)
    message(FATAL_ERROR "TAKT_CUDA=ON needs ${name}: lib${library}.so was not found.\n"
      "  Install it, or point -D${name}_LIBRARY= to it.")
  endif()
  add_library(takt_${library} UNKNOWN IMPORTED GLOBAL)
  set_target_properties(takt_${library} PROPERTIES
    IMPORTED_LOCATION ${${name}_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${${name}_INCLUDE_DIR})
endfunction()
