# cmake -DBUILD= -DBINARY= -DOUT= -DVERSION= -DJAR= -P jar.cmake: lays out and packs the jar.
# native/linux-x64 holds libdsopt_java.so, libdsopt.so.1 and what that loads besides the C and C++ run time; all of them
# find each other by their RPATH $ORIGIN. The file `files` lists their hashes: see NativeLibrary.java.
set(stage ${BINARY}/stage)
set(native ${stage}/native/linux-x64)
file(REMOVE_RECURSE ${stage})
file(COPY ${BINARY}/classes/ DESTINATION ${stage})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --component java --prefix ${BINARY}/natives --strip
  OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)

# Libraries under the names they are looked for by: no links, which a jar cannot hold.
file(REAL_PATH ${BINARY}/natives/libdsopt.so.1 library)
configure_file(${library} ${native}/libdsopt.so.1 COPYONLY)
configure_file(${BINARY}/natives/libdsopt_java.so ${native}/libdsopt_java.so COPYONLY)
file(GET_RUNTIME_DEPENDENCIES LIBRARIES ${native}/libdsopt.so.1 RESOLVED_DEPENDENCIES_VAR needed
  PRE_EXCLUDE_REGEXES "^ld-linux" "^lib(c|m|dl|rt|pthread|gcc_s|stdc\\+\\+)\\.so")
foreach(path ${needed})
  cmake_path(GET path FILENAME name)
  file(REAL_PATH ${path} library)
  configure_file(${library} ${native}/${name} COPYONLY)
  string(REGEX REPLACE "^lib([a-z0-9]+)\\.so\\.([0-9]+)$" "lib\\1\\2" package ${name})
  if(EXISTS /usr/share/doc/${package}/copyright)
    configure_file(/usr/share/doc/${package}/copyright ${stage}/META-INF/licenses/${package}.copyright COPYONLY)
  endif()
endforeach()
file(GLOB files RELATIVE ${native} ${native}/*)
list(SORT files)
set(index)
foreach(name ${files})
  file(SHA256 ${native}/${name} hash)
  string(APPEND index "${hash} ${name}\n")
endforeach()
file(WRITE ${native}/files "${index}")

set(maven ${stage}/META-INF/maven/ai.dsopt/dsopt)
configure_file(${BINARY}/pom.xml ${maven}/pom.xml COPYONLY)
file(WRITE ${maven}/pom.properties "groupId=ai.dsopt\nartifactId=dsopt\nversion=${VERSION}\n")
execute_process(COMMAND ${JAR} --create --file ${OUT} --manifest ${BINARY}/manifest --module-version ${VERSION}
  -C ${stage} . COMMAND_ERROR_IS_FATAL ANY)
file(SIZE ${OUT} bytes)
math(EXPR kilobytes "${bytes} / 1000")
message(STATUS "${OUT}: ${kilobytes} KB")
