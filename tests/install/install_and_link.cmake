# cmake -DBUILD= -DSOURCE= -DWORK= -DLIBDIR= -DVERSION= -P install_and_link.cmake
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE rc OUTPUT_VARIABLE out ERROR_VARIABLE err)
  if(rc)
    message(FATAL_ERROR "${ARGN}: exit code ${rc}\n${out}\n${err}")
  endif()
  set(output "${out}${err}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
file(WRITE ${WORK}/project/CMakeLists.txt "cmake_minimum_required(VERSION 3.20)\nproject(stranger C)\n"
  "find_package(dsopt ${VERSION} REQUIRED)\nadd_executable(stream ${SOURCE}/examples/c/stream.c)\n"
  "target_link_libraries(stream dsopt::dsopt)\n")
run(${CMAKE_COMMAND} -S ${WORK}/project -B ${WORK}/out -DCMAKE_PREFIX_PATH=${WORK}/prefix)
run(${CMAKE_COMMAND} --build ${WORK}/out)
set(model ${SOURCE}/examples/robot_model/robot.dsopt)
run(${CMAKE_COMMAND} -E env LD_LIBRARY_PATH=${WORK}/prefix/${LIBDIR} ${WORK}/out/stream ${model} "go to the kitchen")
if(NOT output MATCHES "\"action\":\"goto\"")
  message(FATAL_ERROR "the installed library answered: ${output}")
endif()

set(ENV{PKG_CONFIG_PATH} ${WORK}/prefix/${LIBDIR}/pkgconfig)
run(pkg-config --cflags --libs --define-variable=prefix=${WORK}/prefix dsopt)
separate_arguments(flags UNIX_COMMAND "${output}")
run(cc -std=c99 ${SOURCE}/examples/c/stream.c -o ${WORK}/stream_pc ${flags})
run(${CMAKE_COMMAND} -E env LD_LIBRARY_PATH=${WORK}/prefix/${LIBDIR} ${WORK}/stream_pc ${model} "go to the kitchen")
