dsopt_fuzz(api_calls SOURCES api_calls_fuzz.cc ${CMAKE_SOURCE_DIR}/tests/tiny_model.cc LIBS dsopt dsopt_format dsopt_base)
