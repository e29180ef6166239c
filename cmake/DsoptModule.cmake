# dsopt_module(<name> [DEPS <modules and targets>...])
# An OBJECT library dsopt_<name> of all .cc files of the current folder tree. Dependencies are the modules whose
# headers it may include, and outside libraries; they propagate to whoever links the module.
function(dsopt_module name)
  cmake_parse_arguments(ARG "" "" "DEPS;SOURCES" ${ARGN})
  if(NOT ARG_SOURCES)
    file(GLOB_RECURSE ARG_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  endif()
  add_library(dsopt_${name} OBJECT ${ARG_SOURCES})
  target_include_directories(dsopt_${name} PUBLIC ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(dsopt_${name} PUBLIC ${ARG_DEPS})
  dsopt_compile_options(dsopt_${name})
endfunction()

# Warnings as errors, and the sanitizers of DSOPT_SANITIZE.
function(dsopt_compile_options target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Werror -Wshadow -Wconversion -Wno-sign-conversion)
  if(DSOPT_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${DSOPT_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
    if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)  # gcc 12 sees uninitialised moves of std::variant in instrumented code
      target_compile_options(${target} PRIVATE -Wno-maybe-uninitialized)
    endif()
    target_link_options(${target} PUBLIC -fsanitize=${DSOPT_SANITIZE})
  endif()
  if(DSOPT_BUILD_FUZZERS)  # coverage, without which libFuzzer finds nothing
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
endfunction()
