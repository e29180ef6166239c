# debian/packages.cmake - libdsopt1, libdsopt-dev, dsopt-tools and, where the plugin is built, libdsopt-cuda.
# Dependencies on other packages are found by dpkg-shlibdeps; those among ours are exact.
set(ours "libdsopt1 (= ${DSOPT_DEBIAN_VERSION})")
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE ${DSOPT_DEBIAN_REVISION})
set(CPACK_DEBIAN_PACKAGE_SOURCE dsopt)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_BINARY_DIR}/lib)
set(CPACK_DSOPT_DEB_COMPONENTS deb_runtime deb_development)

set(CPACK_DEBIAN_DEB_RUNTIME_PACKAGE_NAME libdsopt1)
set(CPACK_DEBIAN_DEB_RUNTIME_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_DEB_RUNTIME_PACKAGE_SUGGESTS libdsopt-cuda)
set(CPACK_DEBIAN_DEB_RUNTIME_PACKAGE_CONTROL_EXTRA
  ${CMAKE_CURRENT_SOURCE_DIR}/debian/triggers ${CMAKE_CURRENT_SOURCE_DIR}/debian/shlibs)
set(CPACK_COMPONENT_DEB_RUNTIME_DESCRIPTION "Embeddable inference of language models - library
One shared library with a stable C interface that games, control loops and
desktop programs link to generate text with low latency: it works in slices
of microseconds, never ends or blocks its host process, and honours a memory
cap in bytes.")

set(CPACK_DEBIAN_DEB_DEVELOPMENT_PACKAGE_NAME libdsopt-dev)
set(CPACK_DEBIAN_DEB_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEB_DEVELOPMENT_PACKAGE_DEPENDS "${ours}")
set(CPACK_COMPONENT_DEB_DEVELOPMENT_DESCRIPTION "Embeddable inference of language models - headers
The C and C++ headers of libdsopt, which are its manual, and the files by
which CMake (find_package) and pkg-config find it.")

if(TARGET dsopt_tool)
  list(APPEND CPACK_DSOPT_DEB_COMPONENTS deb_tools)
  set(CPACK_DEBIAN_DEB_TOOLS_PACKAGE_NAME dsopt-tools)
  set(CPACK_DEBIAN_DEB_TOOLS_PACKAGE_SECTION utils)
  set(CPACK_DEBIAN_DEB_TOOLS_PACKAGE_DEPENDS "${ours}")
  set(CPACK_COMPONENT_DEB_TOOLS_DESCRIPTION "Embeddable inference of language models - command line
The program dsopt converts checkpoints to .dsopt files, runs and measures
them, and examines the machine and its devices.")
endif()

if(TARGET dsopt_cuda)
  list(APPEND CPACK_DSOPT_DEB_COMPONENTS deb_cuda)
  set(CPACK_DEBIAN_DEB_CUDA_PACKAGE_NAME libdsopt-cuda)
  set(CPACK_DEBIAN_DEB_CUDA_PACKAGE_SECTION libs)
  set(CPACK_DEBIAN_DEB_CUDA_PACKAGE_DEPENDS "${ours}")
  set(CPACK_DEBIAN_DEB_CUDA_PACKAGE_ENHANCES libdsopt1)
  set(CPACK_DEBIAN_DEB_CUDA_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_SOURCE_DIR}/debian/triggers)
  set(CPACK_COMPONENT_DEB_CUDA_DESCRIPTION "Embeddable inference of language models - NVIDIA GPUs
The plugin by which libdsopt runs models on NVIDIA GPUs of compute
capability 8.0 and newer. It needs NVIDIA's driver at run time and nothing
else of CUDA; without the driver the library uses the CPU.")
endif()
