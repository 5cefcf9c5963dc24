# cmake --install: the library with its headers (component "library"), and the program (component "program").
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(takt_config_folder ${CMAKE_INSTALL_LIBDIR}/cmake/Takt)
install(TARGETS takt_lib EXPORT TaktTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library)
install(DIRECTORY core collectives optimizers DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/takt COMPONENT library
  FILES_MATCHING PATTERN "*.h")
install(EXPORT TaktTargets NAMESPACE Takt:: DESTINATION ${takt_config_folder} COMPONENT library)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/TaktConfig.cmake.in ${PROJECT_BINARY_DIR}/TaktConfig.cmake
  INSTALL_DESTINATION ${takt_config_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/TaktConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/TaktConfig.cmake ${PROJECT_BINARY_DIR}/TaktConfigVersion.cmake
  ${CMAKE_CURRENT_LIST_DIR}/FindDnnl.cmake ${CMAKE_CURRENT_LIST_DIR}/FindXxhash.cmake ${CMAKE_CURRENT_LIST_DIR}/FindHwloc.cmake
  DESTINATION ${takt_config_folder} COMPONENT library)
install(TARGETS takt RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT program)
