dsopt_fuzz(chunk SOURCES chunk_fuzz.cc LIBS dsopt_format dsopt_base)
