# Compiler settings, the libraries that were found, and the functions that apply both to a target.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
include(GNUInstallDirs)
option(WHENCE_FUZZ "Build the fuzz targets as libFuzzer programs (clang)" OFF)

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(ZLIB REQUIRED)
find_path(WHENCE_STB_INCLUDE_DIR stb/stb_image.h REQUIRED DOC "Folder that holds stb/stb_image.h")
if(WHENCE_JPEG STREQUAL "AUTO")
  find_package(JPEG QUIET)
elseif(WHENCE_JPEG)
  find_package(JPEG REQUIRED)
endif()
# CUDA: the toolkit's compiler and runtime. CMake asks for the language where whence turns it on.
set(WHENCE_HAVE_CUDA OFF)
set(WHENCE_CUDA_STATE "off")
if(WHENCE_CUDA)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
      set(CMAKE_CUDA_ARCHITECTURES 80-real 90)  # newer GPUs compile the PTX of 90
    endif()
    enable_language(CUDA)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc has C++20
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
    find_package(CUDAToolkit REQUIRED)
    set(WHENCE_HAVE_CUDA ON)
    set(WHENCE_CUDA_STATE "toolkit ${CUDAToolkit_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}")
  elseif(WHENCE_CUDA STREQUAL "AUTO")
    set(WHENCE_CUDA_STATE "none, no nvcc was found")
  else()
    message(FATAL_ERROR "WHENCE_CUDA=ON needs the CUDA toolkit, and no nvcc was found: put it into PATH, "
                        "set CUDACXX, or use WHENCE_CUDA=AUTO")
  endif()
endif()

add_library(whence_warnings INTERFACE)
target_compile_options(whence_warnings INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # False alarms of GCC 12 in inlined std::string and std::vector (its bugs 105651 and 105329).
  target_compile_options(whence_warnings INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict;-Wno-stringop-overread;-Wno-stringop-overflow>)
endif()
if("$ENV{CI}" STREQUAL "true")
  target_compile_options(whence_warnings INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Werror> $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>)
endif()

if(WHENCE_SANITIZE)
  add_compile_definitions(WHENCE_SMALL_TILES)
  if(WHENCE_SANITIZE MATCHES "thread")
    add_compile_definitions(WHENCE_TSAN)  # also for what is compiled without the sanitizer
  endif()
  add_compile_options(-fsanitize=${WHENCE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${WHENCE_SANITIZE})
endif()
if(WHENCE_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "WHENCE_FUZZ=ON needs clang: use the preset fuzz, or set CMAKE_CXX_COMPILER=clang++")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# Objects that become part of the library: they see what it sees.
function(whence_configure_objects target)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(${target} PRIVATE whence_warnings)
  target_compile_definitions(${target} PRIVATE
    $<$<BOOL:${WHENCE_SIMT}>:WHENCE_HAVE_SIMT> $<$<BOOL:${WHENCE_HAVE_CUDA}>:WHENCE_HAVE_CUDA>
    $<$<BOOL:${WHENCE_F64}>:WHENCE_F64>)
endfunction()

function(whence_configure_library target)
  target_compile_features(${target} PUBLIC cxx_std_20)  # users of the package need it too
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_definitions(${target} PUBLIC
    $<$<BOOL:${WHENCE_SIMT}>:WHENCE_HAVE_SIMT> $<$<BOOL:${WHENCE_HAVE_CUDA}>:WHENCE_HAVE_CUDA>)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  target_include_directories(${target} SYSTEM PRIVATE ${WHENCE_STB_INCLUDE_DIR})
  target_link_libraries(${target} PRIVATE
    $<BUILD_INTERFACE:whence_warnings> fmt::fmt $<BUILD_INTERFACE:nlohmann_json::nlohmann_json>
    ZLIB::ZLIB Threads::Threads)
  if(WHENCE_F64)
    target_compile_definitions(${target} PUBLIC WHENCE_F64)
  endif()
  if(JPEG_FOUND)
    target_compile_definitions(${target} PRIVATE WHENCE_HAVE_JPEG)
    target_link_libraries(${target} PRIVATE JPEG::JPEG)
  endif()
  # Before 2.28 stb_image's progressive decoder overflows on corrupt data; wrapping makes that defined.
  set_source_files_properties(${PROJECT_SOURCE_DIR}/io/stb.cpp PROPERTIES
    SKIP_PRECOMPILE_HEADERS ON COMPILE_OPTIONS "-fwrapv;-fno-sanitize=shift")
  # Pillow's pixels, and those of pictures on every device, come from separately rounded products and sums.
  set_source_files_properties(${PROJECT_SOURCE_DIR}/io/resample.cpp ${PROJECT_SOURCE_DIR}/explain/draw/picture.cpp PROPERTIES
    SKIP_PRECOMPILE_HEADERS ON COMPILE_OPTIONS "-ffp-contract=off")
endfunction()

# Headers of the standard library and of fmt that nearly every source reads, compiled once: half the time of a
# build goes into them otherwise. Sources still include what they use; WHENCE_PCH=OFF proves it.
function(whence_precompile_headers target)
  if(WHENCE_PCH)
    target_precompile_headers(${target} PRIVATE <algorithm> <cmath> <filesystem> <functional> <map> <memory> <optional>
      <span> <string> <vector> <fmt/core.h> ${ARGN})
  endif()
endfunction()

# Programs, tests and benches see the internal headers as well.
function(whence_configure_program target)
  target_link_libraries(${target} PRIVATE
    whence::whence whence_warnings fmt::fmt nlohmann_json::nlohmann_json Threads::Threads)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(${target} PRIVATE WHENCE_VERSION="${PROJECT_VERSION}")
endfunction()

function(whence_print_summary)
  message(STATUS "whence ${PROJECT_VERSION}")
  foreach(row "build type:${CMAKE_BUILD_TYPE}" "double precision:${WHENCE_F64}"
              "native kernels:${WHENCE_NATIVE}"
              "libjpeg-turbo:${JPEG_FOUND}" "CUDA:${WHENCE_CUDA_STATE}" "emulated device:${WHENCE_SIMT}"
              "tests:${WHENCE_TESTS}" "benchmarks:${WHENCE_BENCH}")
    string(REGEX REPLACE "^([^:]*):(.*)$" "\\1;\\2" pair "${row}")
    list(GET pair 0 name)
    list(GET pair 1 value)
    message(STATUS "  ${name}: ${value}")
  endforeach()
endfunction()
