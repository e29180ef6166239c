dsopt_fuzz(stream_load SOURCES stream_load_fuzz.cc ${CMAKE_SOURCE_DIR}/tests/tiny_model.cc
  LIBS dsopt dsopt_format dsopt_base PkgConfig::XXHASH)
