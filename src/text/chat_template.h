// chat_template.h - a sandboxed subset of Jinja: enough for the chat templates of published checkpoints.
#ifndef DSOPT_TEXT_CHAT_TEMPLATE_H_
#define DSOPT_TEXT_CHAT_TEMPLATE_H_

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace dsopt {

struct ChatMessage {
  std::string_view role, content;
};

// Immutable after Parse. [thread-safe]
class ChatTemplate {
 public:
  // DSOPT_E_UNSUPPORTED names the construct and its line when the template leaves the subset.
  static Result<std::unique_ptr<const ChatTemplate>> Parse(std::string_view source);
  virtual ~ChatTemplate() = default;
  // Fails with the template's own raise_exception message, or after a bounded number of steps or output bytes.
  virtual Result<std::string> Render(std::span<const ChatMessage> messages, std::string_view bos,
                                     std::string_view eos, bool add_generation_prompt) const = 0;
};

}  // namespace dsopt
#endif  // DSOPT_TEXT_CHAT_TEMPLATE_H_
