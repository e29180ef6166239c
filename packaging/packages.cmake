# packages.cmake - target `packages`: what cpack makes of the components. Other kinds of package (a wheel, a jar, ...)
# join below.
set(CPACK_PACKAGE_NAME dsopt)
set(CPACK_PACKAGE_VENDOR dsopt)
set(CPACK_PACKAGE_CONTACT "${DSOPT_PACKAGE_CONTACT}")
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR}/packages)
set(CPACK_PACKAGE_FILE_NAME dsopt-${PROJECT_VERSION}-linux-${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_STRIP_FILES ON)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_PROJECT_CONFIG_FILE ${CMAKE_CURRENT_SOURCE_DIR}/cpack_generator.cmake)
set(CPACK_GENERATOR TGZ)
set(CPACK_ARCHIVE_COMPONENT_INSTALL ON)
set(CPACK_DSOPT_TAR_COMPONENTS runtime development bundle)
set(package_targets dsopt)
if(TARGET dsopt_tool)
  list(APPEND CPACK_DSOPT_TAR_COMPONENTS tools)
  list(APPEND package_targets dsopt_tool)
endif()
if(TARGET dsopt_cuda)
  list(APPEND CPACK_DSOPT_TAR_COMPONENTS cuda)
  list(APPEND package_targets dsopt_cuda)
endif()
find_program(DPKG_DEB dpkg-deb)
if(CMAKE_LIBRARY_ARCHITECTURE AND DPKG_DEB)
  list(APPEND CPACK_GENERATOR DEB)
  include(debian/packages.cmake)
endif()
include(CPack)

add_custom_target(packages
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${CPACK_PACKAGE_DIRECTORY}
  COMMAND ${CMAKE_CPACK_COMMAND} --config ${CMAKE_BINARY_DIR}/CPackConfig.cmake
  WORKING_DIRECTORY ${CMAKE_BINARY_DIR} VERBATIM)
add_dependencies(packages ${package_targets})
foreach(target wheel jar)  # packages of languages, into folders of their own
  if(TARGET ${target})
    add_dependencies(packages ${target})
  endif()
endforeach()

# The plugin's Debian package alone, which needs nothing else to be built.
if("deb_cuda" IN_LIST CPACK_DSOPT_DEB_COMPONENTS)
  add_custom_target(cuda_package
    COMMAND ${CMAKE_CPACK_COMMAND} --config ${CMAKE_BINARY_DIR}/CPackConfig.cmake -G DEB
      -D CPACK_DSOPT_DEB_COMPONENTS=deb_cuda
    WORKING_DIRECTORY ${CMAKE_BINARY_DIR} VERBATIM)
  add_dependencies(cuda_package dsopt_cuda)
endif()
