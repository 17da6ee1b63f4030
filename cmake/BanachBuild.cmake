# How everything here is compiled: warnings, sanitizers, ccache, and the functions that make a target from a folder.

if(BANACH_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(BANACH_CCACHE_PROGRAM ccache)
  if(BANACH_CCACHE_PROGRAM)
    set(CMAKE_CXX_COMPILER_LAUNCHER "${BANACH_CCACHE_PROGRAM}")
  endif()
endif()

if(BANACH_SANITIZE)
  add_compile_options(-fsanitize=${BANACH_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${BANACH_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # The instrumented code confuses this warning (GCC says so itself); the presets without sanitizers keep it.
    add_compile_options(-Wno-maybe-uninitialized)
    # Looked at before every access, these four are most of what there is to compile; null pointers and wrong sizes are
    # AddressSanitizer's as well, and the processor's vector loads check their alignment.
    if(BANACH_SANITIZE MATCHES "undefined")
      add_compile_options(-fno-sanitize=null,alignment,object-size,vptr)
    endif()
  endif()
endif()

# Private flags of every target built here; not part of the installed package.
add_library(banach_flags INTERFACE)
target_compile_features(banach_flags INTERFACE cxx_std_20)
target_compile_options(banach_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion $<$<BOOL:${BANACH_WERROR}>:-Werror>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # A false alarm of GCC 12 on std::string's operator+ (its bug 105651).
  target_compile_options(banach_flags INTERFACE -Wno-restrict)
endif()
target_include_directories(banach_flags INTERFACE "${PROJECT_SOURCE_DIR}" "${PROJECT_BINARY_DIR}/generated")

# Sources whose name contains `xtensor` are those that use it. Under C++20, GCC miscompiles reductions of an xarray (a
# result of rank 4 appears) unless template template parameters are matched the old way.
function(banach_prepare_xtensor_sources)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    return()
  endif()
  foreach(source IN LISTS ARGN)
    cmake_path(GET source FILENAME name)
    if(name MATCHES "xtensor")
      set_property(SOURCE "${source}" APPEND PROPERTY COMPILE_OPTIONS -fno-new-ttp-matching)
    endif()
  endforeach()
endfunction()

# banach_layer(NAME): the object library banach_NAME from banach/NAME/**/*.cpp. A layer without sources is left out.
function(banach_layer name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/banach/${name}/*.cpp")
  set(target "banach_${name}")
  add_library(${target} OBJECT ${sources})
  banach_prepare_xtensor_sources(${sources})
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_link_libraries(${target} PRIVATE
    banach_flags OpenBLAS::OpenBLAS TBB::tbb ZLIB::ZLIB fmt::fmt nlohmann_json::nlohmann_json xsimd xtensor)
  # Sources may still be missing (a layer that is only headers): CMake wants one.
  if(NOT sources)
    file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/generated/empty_${name}.cpp" CONTENT "")
    target_sources(${target} PRIVATE "${PROJECT_BINARY_DIR}/generated/empty_${name}.cpp")
  endif()
  set(banach_layers ${banach_layers} ${target} PARENT_SCOPE)
endfunction()
