# install + find_package(whence).
include(CMakePackageConfigHelpers)
install(DIRECTORY include/whence TYPE INCLUDE)
install(TARGETS whence EXPORT whenceTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET whence_cli)
  install(TARGETS whence_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
file(GLOB bundled CONFIGURE_DEPENDS LIST_DIRECTORIES true weights/demo-*)
if(bundled)
  install(DIRECTORY ${bundled} DESTINATION ${CMAKE_INSTALL_DATADIR}/whence)
endif()
set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/whence)
install(EXPORT whenceTargets NAMESPACE whence:: DESTINATION ${config_dir})
configure_package_config_file(cmake/whenceConfig.cmake.in ${PROJECT_BINARY_DIR}/whenceConfig.cmake
                              INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/whenceConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/whenceConfig.cmake ${PROJECT_BINARY_DIR}/whenceConfigVersion.cmake
        DESTINATION ${config_dir})
