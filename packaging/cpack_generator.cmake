# Read by cpack before each generator: the tarball is one archive of the plain components; every Debian package is
# one component of the set that is laid out for Debian.
if(CPACK_GENERATOR STREQUAL "DEB")
  set(CPACK_COMPONENTS_ALL ${CPACK_DSOPT_DEB_COMPONENTS})
  set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
  set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "")  # the first line of a component's description is its summary
else()
  set(CPACK_COMPONENTS_ALL ${CPACK_DSOPT_TAR_COMPONENTS})
  set(CPACK_COMPONENT_INCLUDE_TOPLEVEL_DIRECTORY ON)
  set(CPACK_COMPONENTS_GROUPING ALL_COMPONENTS_IN_ONE)
endif()
