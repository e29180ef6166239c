dsopt_fuzz(container SOURCES container_fuzz.cc LIBS dsopt_format dsopt_base)
