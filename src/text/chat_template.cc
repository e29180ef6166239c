#include "text/chat_template.h"

#include "text/jinja_ast.h"
#include "text/jinja_eval.h"

namespace dsopt {
namespace {

constexpr size_t kMaxTemplateBytes = size_t{1} << 20;
constexpr size_t kMaxMessageBytes = size_t{64} << 20;

class ChatTemplateImpl final : public ChatTemplate {
 public:
  explicit ChatTemplateImpl(jinja::Block block) : block_(std::move(block)) {}

  Result<std::string> Render(std::span<const ChatMessage> messages, std::string_view bos, std::string_view eos,
                             bool add_generation_prompt) const override {
    size_t bytes = 0;
    jinja::List list;
    for (const ChatMessage& message : messages) {
      bytes += message.content.size() + message.role.size();
      list.push_back(jinja::Value::FromDict({{"role", jinja::Value(std::string(message.role))},
                                             {"content", jinja::Value(std::string(message.content))}}));
    }
    if (bytes > kMaxMessageBytes) {
      return Error(DSOPT_E_INVALID_ARGUMENT, "chat messages: %zu bytes, at most %zu can be formatted", bytes,
                   kMaxMessageBytes);
    }
    // As transformers calls a template without tools and documents.
    return jinja::Render(block_, {{"messages", jinja::Value::FromList(std::move(list))},
                                  {"bos_token", jinja::Value(std::string(bos))},
                                  {"eos_token", jinja::Value(std::string(eos))},
                                  {"add_generation_prompt", jinja::Value(add_generation_prompt)},
                                  {"tools", jinja::Value(jinja::None{})},
                                  {"documents", jinja::Value(jinja::None{})}});
  }

 private:
  const jinja::Block block_;
};

}  // namespace

Result<std::unique_ptr<const ChatTemplate>> ChatTemplate::Parse(std::string_view source) {
  if (source.size() > kMaxTemplateBytes) {
    return Error(DSOPT_E_UNSUPPORTED, "chat template: %zu bytes, at most %zu are read", source.size(),
                 kMaxTemplateBytes);
  }
  ASSIGN_OR_RETURN(jinja::Block block, jinja::Parse(source));
  return std::unique_ptr<const ChatTemplate>(std::make_unique<ChatTemplateImpl>(std::move(block)));
}

}  // namespace dsopt
