dsopt_fuzz(hf_config SOURCES hf_config_fuzz.cc LIBS dsopt_import dsopt_quant dsopt_text dsopt_format dsopt_base)
