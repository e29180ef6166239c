dsopt_fuzz(gguf SOURCES gguf_fuzz.cc LIBS dsopt_import dsopt_quant dsopt_text dsopt_format dsopt_base)
