dsopt_fuzz(chat_template SOURCES chat_template_fuzz.cc LIBS dsopt_text dsopt_base)
