dsopt_fuzz(safetensors SOURCES safetensors_fuzz.cc LIBS dsopt_import dsopt_quant dsopt_text dsopt_format dsopt_base)
