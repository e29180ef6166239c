# install_rules.cmake - install rules by component: runtime (the library), development, tools, cuda. The same rules
# a second time, as deb_runtime and so on, put the library where Debian wants it. Only the first set is in `all`.
include(CMakePackageConfigHelpers)

# Programs find the library, and the library what was bundled with it, relative to themselves; in the build folder
# too, where CMake's own paths would end in an empty one, which is the current directory.
set_target_properties(dsopt PROPERTIES INSTALL_RPATH "$ORIGIN" BUILD_WITH_INSTALL_RPATH ON)
if(TARGET dsopt_tool)
  file(RELATIVE_PATH library_from_bin ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
  set(tool_rpath "$ORIGIN/../lib" "$ORIGIN/${library_from_bin}")
  list(REMOVE_DUPLICATES tool_rpath)
  set_target_properties(dsopt_tool PROPERTIES INSTALL_RPATH "${tool_rpath}" BUILD_WITH_INSTALL_RPATH ON)
  # DT_RPATH: what a bundled library needs is looked for there too.
  target_link_options(dsopt_tool PRIVATE -Wl,--disable-new-dtags)
endif()

# The rules of one set; `set` is the prefix of its components.
function(dsopt_install set libdir)
  if(set)
    set(in_all EXCLUDE_FROM_ALL)
  else()
    set(in_all)
    set(bundle RUNTIME_DEPENDENCY_SET dsopt_bundle)  # collects what dsopt_install_bundle copies
  endif()
  install(TARGETS dsopt EXPORT ${set}dsoptTargets ${bundle} LIBRARY DESTINATION ${libdir}
    COMPONENT ${set}runtime NAMELINK_COMPONENT ${set}development ${in_all})
  install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/dsopt DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
    COMPONENT ${set}development ${in_all})
  dsopt_install_config("${set}" ${libdir} "${in_all}")
  if(TARGET dsopt_tool)
    install(TARGETS dsopt_tool ${bundle} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
      COMPONENT ${set}tools ${in_all})
  endif()
  if(TARGET dsopt_cuda)
    install(TARGETS dsopt_cuda LIBRARY DESTINATION ${libdir} COMPONENT ${set}cuda ${in_all})
  endif()
endfunction()

# find_package(dsopt) and pkg-config. Both work from wherever the tree lies: nothing in them is absolute.
function(dsopt_install_config set libdir in_all)
  set(made ${CMAKE_CURRENT_BINARY_DIR}/${set}config)
  set(config_dir ${libdir}/cmake/dsopt)
  install(EXPORT ${set}dsoptTargets FILE dsoptTargets.cmake NAMESPACE dsopt:: DESTINATION ${config_dir}
    COMPONENT ${set}development ${in_all})
  configure_package_config_file(cmake/dsoptConfig.cmake.in ${made}/dsoptConfig.cmake
    INSTALL_DESTINATION ${config_dir})
  write_basic_package_version_file(${made}/dsoptConfigVersion.cmake COMPATIBILITY SameMajorVersion)
  install(FILES ${made}/dsoptConfig.cmake ${made}/dsoptConfigVersion.cmake DESTINATION ${config_dir}
    COMPONENT ${set}development ${in_all})

  set(DSOPT_PC_LIBDIR ${libdir})
  cmake_path(ABSOLUTE_PATH libdir BASE_DIRECTORY ${CMAKE_INSTALL_PREFIX} OUTPUT_VARIABLE full_libdir)
  cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX BASE_DIRECTORY ${full_libdir}/pkgconfig
    OUTPUT_VARIABLE DSOPT_PC_PREFIX)
  configure_file(cmake/dsopt.pc.in ${made}/dsopt.pc @ONLY)
  install(FILES ${made}/dsopt.pc DESTINATION ${libdir}/pkgconfig COMPONENT ${set}development ${in_all})
endfunction()

# Component bundle: the shared libraries outside of the C and C++ run time that library and program load, with their
# licences, so that the tarball runs where they are absent.
function(dsopt_install_bundle libdir)
  dsopt_install_dependencies(dsopt_bundle bundle ${libdir} ${CMAKE_INSTALL_DOCDIR}/bundled
    zstd1 xxhash0 utf8proc2 absl20220623)
endfunction()

# The same for any set of targets and component; the rest are Debian's names of what they load.
function(dsopt_install_dependencies set component libdir licences)
  install(RUNTIME_DEPENDENCY_SET ${set}
    PRE_EXCLUDE_REGEXES "^ld-linux" "^lib(c|m|dl|rt|pthread|gcc_s|stdc\\+\\+)\\.so" "^libdsopt"
    LIBRARY DESTINATION ${libdir} COMPONENT ${component} EXCLUDE_FROM_ALL)
  foreach(package ${ARGN})
    install(FILES /usr/share/doc/lib${package}/copyright DESTINATION ${licences}
      RENAME lib${package}.copyright COMPONENT ${component} OPTIONAL EXCLUDE_FROM_ALL)
  endforeach()
endfunction()

# What Debian wants in every package: copyright and changelog; a manual page for the program.
function(dsopt_install_debian_documents)
  set(made ${CMAKE_CURRENT_BINARY_DIR}/debian)
  foreach(pair changelog:changelog.Debian dsopt.1:dsopt.1)
    string(REPLACE ":" ";" pair ${pair})
    list(POP_FRONT pair from to)
    configure_file(debian/${from}.in ${made}/${to} @ONLY)
    execute_process(COMMAND gzip -9nf ${made}/${to} COMMAND_ERROR_IS_FATAL ANY)
  endforeach()
  foreach(pair deb_runtime:libdsopt1 deb_development:libdsopt-dev deb_tools:dsopt-tools deb_cuda:libdsopt-cuda)
    string(REPLACE ":" ";" pair ${pair})
    list(POP_FRONT pair component package)
    install(FILES debian/copyright ${made}/changelog.Debian.gz DESTINATION share/doc/${package}
      COMPONENT ${component} EXCLUDE_FROM_ALL)
  endforeach()
  install(FILES ${made}/dsopt.1.gz DESTINATION share/man/man1 COMPONENT deb_tools EXCLUDE_FROM_ALL)
  # Debian's program finds the library by ldconfig.
  install(CODE "file(GLOB dsopt_elf \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/lib/*/libdsopt.so.*.*\")
    foreach(elf \${dsopt_elf})\n file(RPATH_REMOVE FILE \${elf})\n endforeach()" COMPONENT deb_runtime EXCLUDE_FROM_ALL)
  install(CODE "file(RPATH_REMOVE FILE \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/dsopt\")"
    COMPONENT deb_tools EXCLUDE_FROM_ALL)
endfunction()
