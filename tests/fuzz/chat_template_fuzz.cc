// chat_template_fuzz.cc - any bytes as a chat template: parsing and rendering end, with text or with a message.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 1 << 16) return 0;
  const auto parsed = dsopt::ChatTemplate::Parse({reinterpret_cast<const char*>(data), size});
  if (!parsed.ok()) {
    if (parsed.status().message().empty()) std::abort();
    return 0;
  }
  const dsopt::ChatMessage messages[] = {{"system", " Be brief. "}, {"user", "Hi\xFF"}, {"assistant", "Yes"}};
  for (const bool add : {false, true}) {
    const auto out = (*parsed)->Render(messages, "<s>", "</s>", add);
    if (out.ok() && out->size() > (size_t{64} << 20)) std::abort();
  }
  return 0;
}
