# nuget.cmake - target `nuget`: Dsopt.VERSION.nupkg beside Dsopt.dll. Its folder is the install component nuget:
# assembly, documentation, and for Linux on x86-64 the native libraries with what they need beyond the C and C++ run
# time.
find_package(Python3 COMPONENTS Interpreter)
if(NOT TARGET dsopt_csharp OR NOT Python3_Interpreter_FOUND OR NOT CMAKE_SYSTEM_PROCESSOR STREQUAL x86_64)
  message(STATUS "no target nuget: it needs the C# binding and python3, on x86-64")
  return()
endif()
set(native runtimes/linux-x64/native)
configure_file(${CMAKE_CURRENT_LIST_DIR}/Dsopt.nuspec.in ${CMAKE_CURRENT_BINARY_DIR}/nuget/Dsopt.nuspec @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/nuget/Dsopt.nuspec ${CMAKE_SOURCE_DIR}/bindings/csharp/README.md
  DESTINATION . COMPONENT nuget EXCLUDE_FROM_ALL)
install(FILES ${DSOPT_CSHARP_DIR}/Dsopt.dll ${DSOPT_CSHARP_DIR}/Dsopt.xml
  DESTINATION lib/netstandard2.0 COMPONENT nuget EXCLUDE_FROM_ALL)
install(FILES ${CMAKE_CURRENT_LIST_DIR}/Dsopt.targets
  DESTINATION build/netstandard2.0 COMPONENT nuget EXCLUDE_FROM_ALL)
install(TARGETS dsopt RUNTIME_DEPENDENCY_SET dsopt_nuget LIBRARY DESTINATION ${native}
  COMPONENT nuget NAMELINK_SKIP EXCLUDE_FROM_ALL)
install(TARGETS dsopt_csharp LIBRARY DESTINATION ${native} COMPONENT nuget EXCLUDE_FROM_ALL)
dsopt_install_dependencies(dsopt_nuget nuget ${native} licenses zstd1 xxhash0 utf8proc2)

set(folder ${CMAKE_CURRENT_BINARY_DIR}/nuget/folder)
set(DSOPT_NUPKG ${DSOPT_CSHARP_DIR}/Dsopt.${PROJECT_VERSION}.nupkg CACHE INTERNAL "what the target nuget makes")
add_custom_command(OUTPUT ${DSOPT_NUPKG}
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${folder}
  COMMAND ${CMAKE_COMMAND} --install ${CMAKE_BINARY_DIR} --component nuget --strip --prefix ${folder}
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/make_nupkg.py ${folder} ${DSOPT_NUPKG}
  DEPENDS dsopt dsopt_csharp ${DSOPT_CSHARP_DIR}/Dsopt.dll ${CMAKE_CURRENT_BINARY_DIR}/nuget/Dsopt.nuspec
          ${CMAKE_CURRENT_LIST_DIR}/make_nupkg.py ${CMAKE_CURRENT_LIST_DIR}/Dsopt.targets
          ${CMAKE_SOURCE_DIR}/bindings/csharp/README.md
  VERBATIM)
add_custom_target(nuget ALL DEPENDS ${DSOPT_NUPKG})
add_dependencies(packages nuget)
