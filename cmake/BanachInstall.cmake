# The installed tree: headers, the library, the package files for find_package(banach), and the command.
include(CMakePackageConfigHelpers)
set(banach_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/banach")

install(TARGETS banach EXPORT banachTargets)
install(EXPORT banachTargets NAMESPACE banach:: DESTINATION "${banach_package_dir}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/banach/" "${PROJECT_BINARY_DIR}/generated/banach/"
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/banach"
  FILES_MATCHING PATTERN "*.hpp"
  PATTERN "simd_kernels.hpp" EXCLUDE PATTERN "simd_math.hpp" EXCLUDE PATTERN "packed_kernels.hpp" EXCLUDE
  PATTERN "history_kernels.hpp" EXCLUDE PATTERN "winograd_kernels.hpp" EXCLUDE)  # internal to the kernel sources
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DATADIR}/licenses/banach")

if(BANACH_APPS AND TARGET banach_cli)
  install(TARGETS banach_cli)
endif()

get_target_property(banach_library_type banach TYPE)
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/banachConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/package/banachConfig.cmake" INSTALL_DESTINATION "${banach_package_dir}")
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/package/banachConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES
  "${PROJECT_BINARY_DIR}/package/banachConfig.cmake" "${PROJECT_BINARY_DIR}/package/banachConfigVersion.cmake"
  "${PROJECT_SOURCE_DIR}/cmake/FindOpenBLAS.cmake"
  DESTINATION "${banach_package_dir}")
