# Finds oneDNN as Dnnl::dnnl. Its own config file, as Debian packages it, also wants OpenCL, which a CPU build does not.
include(FindPackageHandleStandardArgs)
find_path(Dnnl_INCLUDE_DIR oneapi/dnnl/dnnl.hpp)
find_library(Dnnl_LIBRARY dnnl)
find_package_handle_standard_args(Dnnl REQUIRED_VARS Dnnl_LIBRARY Dnnl_INCLUDE_DIR
  REASON_FAILURE_MESSAGE "install oneDNN (Debian: libdnnl-dev), or run scripts/setup.sh")
if(Dnnl_FOUND AND NOT TARGET Dnnl::dnnl)
  add_library(Dnnl::dnnl UNKNOWN IMPORTED)
  set_target_properties(Dnnl::dnnl PROPERTIES
    IMPORTED_LOCATION ${Dnnl_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${Dnnl_INCLUDE_DIR})
endif()
