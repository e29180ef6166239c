# cmake -DROOT=<source dir> -P include_graph.cmake
# A folder may include only the folders named here: the dependency direction of the architecture.
cmake_minimum_required(VERSION 3.25)
set(allow_base "base")
set(allow_spec "spec")
set(allow_format "format;spec;base")
set(allow_text "text;spec;base")
set(allow_device "device;base")
set(allow_ops "ops;device;base")
set(allow_model "model;device;format;spec;base")
set(allow_runtime "runtime;model;text;device;format;spec;base")
set(allow_capi "capi;runtime;ops;model;text;device;format;spec;base")
set(allow_quant "quant;spec;base")
set(allow_import "import;quant;format;text;spec;base;model/names.h")
set(allow_tools "tools;import;quant;format;text;spec;base;absl")

function(check folder file allowed)
  file(STRINGS ${file} lines REGEX "^[ \t]*#[ \t]*include[ \t]*\"")
  foreach(line ${lines})
    string(REGEX REPLACE ".*\"(.*)\".*" "\\1" header ${line})
    string(REGEX REPLACE "/.*" "" top ${header})
    if(header MATCHES "_generated.h$" OR top STREQUAL "dsopt" OR top IN_LIST allowed OR header IN_LIST allowed)
      continue()
    endif()
    message(SEND_ERROR "${file}: includes \"${header}\", but ${folder} may include only: dsopt ${allowed}")
  endforeach()
endfunction()

foreach(folder base spec format text device ops model runtime capi quant import tools)
  file(GLOB_RECURSE files ${ROOT}/src/${folder}/*.h ${ROOT}/src/${folder}/*.cc)
  foreach(file ${files})
    check(src/${folder} ${file} "${allow_${folder}}")
  endforeach()
endforeach()
# Backends see the public headers, kernels/shared and themselves, nothing of src/ and nothing of each other.
foreach(backend shared cpu cuda)
  file(GLOB_RECURSE files ${ROOT}/kernels/${backend}/*.h ${ROOT}/kernels/${backend}/*.cc ${ROOT}/kernels/${backend}/*.inc
       ${ROOT}/kernels/${backend}/*.cu ${ROOT}/kernels/${backend}/*.cuh)
  foreach(file ${files})
    file(STRINGS ${file} lines REGEX "^[ \t]*#[ \t]*include[ \t]*\"")
    foreach(line ${lines})
      string(REGEX REPLACE ".*\"(.*)\".*" "\\1" header ${line})
      string(REGEX REPLACE "/.*" "" top ${header})
<<<<<<< HEAD
      if(top MATCHES "^(base|spec|format|text|device|ops|model|runtime|capi|quant|import|tools|src)$" AND header MATCHES "/"
=======
      if(top MATCHES "^(base|spec|format|text|device|model|runtime|capi|quant|import|tools|src|cpu|cuda)$" AND header MATCHES "/"
>>>>>>> 8bb5606 (Kernels: the checks of descriptions and batches are shared by all backends)
         AND NOT EXISTS ${ROOT}/kernels/${backend}/${header})
        message(SEND_ERROR "${file}: includes \"${header}\": a backend may include only dsopt/, shared/ and its own folder")
      endif()
    endforeach()
  endforeach()
endforeach()
