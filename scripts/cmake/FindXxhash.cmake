# Finds xxHash as Xxhash::xxhash; Debian's package has no CMake config.
include(FindPackageHandleStandardArgs)
find_path(Xxhash_INCLUDE_DIR xxhash.h)
find_library(Xxhash_LIBRARY xxhash)
find_package_handle_standard_args(Xxhash REQUIRED_VARS Xxhash_LIBRARY Xxhash_INCLUDE_DIR
  REASON_FAILURE_MESSAGE "install xxHash (Debian: libxxhash-dev), or run scripts/setup.sh")
if(Xxhash_FOUND AND NOT TARGET Xxhash::xxhash)
  add_library(Xxhash::xxhash UNKNOWN IMPORTED)
  set_target_properties(Xxhash::xxhash PROPERTIES
    IMPORTED_LOCATION ${Xxhash_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${Xxhash_INCLUDE_DIR})
endif()
