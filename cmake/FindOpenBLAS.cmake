# OpenBLAS with the LAPACK inside it, as the target OpenBLAS::OpenBLAS. OpenBLAS' own package file gives variables only;
# this module turns them into a target, and looks for the files where there is no package file. Installed beside
# banachConfig.cmake, since a static banach needs it at link time.
find_package(OpenBLAS QUIET CONFIG)
if(OpenBLAS_FOUND)
  set(OpenBLAS_LIBRARY "${OpenBLAS_LIBRARIES}")
  set(OpenBLAS_INCLUDE_DIR "${OpenBLAS_INCLUDE_DIRS}")
else()
  find_library(OpenBLAS_LIBRARY openblas PATH_SUFFIXES openblas-pthread)
  find_path(OpenBLAS_INCLUDE_DIR cblas.h PATH_SUFFIXES openblas-pthread openblas)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OpenBLAS REQUIRED_VARS OpenBLAS_LIBRARY OpenBLAS_INCLUDE_DIR)
mark_as_advanced(OpenBLAS_LIBRARY OpenBLAS_INCLUDE_DIR)

if(OpenBLAS_FOUND AND NOT TARGET OpenBLAS::OpenBLAS)
  add_library(OpenBLAS::OpenBLAS INTERFACE IMPORTED)
  target_include_directories(OpenBLAS::OpenBLAS INTERFACE "${OpenBLAS_INCLUDE_DIR}")
  target_link_libraries(OpenBLAS::OpenBLAS INTERFACE "${OpenBLAS_LIBRARY}")
endif()
