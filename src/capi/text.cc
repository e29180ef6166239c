// text.cc - dsopt_tokenize, dsopt_detokenize, dsopt_chat_format.
#include "base/utf8.h"
#include "capi/guard.h"
#include "capi/handles.h"
#include "capi/options.h"

namespace dsopt {
namespace {

Status CheckMessageText(size_t index, const char* member, std::string_view text) {
  const size_t offset = InvalidUtf8Offset(text);
  if (offset == std::string_view::npos) return Status();
  return Error(DSOPT_E_INVALID_ARGUMENT, "messages[%zu].%s: invalid UTF-8 at byte %zu", index, member, offset);
}

}  // namespace
}  // namespace dsopt

using namespace dsopt;  // NOLINT: the functions below are the C face of this namespace

dsopt_status dsopt_tokenize(const dsopt_model* model, const char* text, size_t len, uint32_t flags,
                            dsopt_token* tokens, size_t cap, size_t* out_count) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(model);
    RETURN_IF_NULL(out_count);
    RETURN_IF_ERROR(CheckArray("tokens", tokens, cap));
    RETURN_IF_ERROR(CheckFlags("flags", flags, DSOPT_TOKENIZE_ADD_BOS | DSOPT_TOKENIZE_PARSE_SPECIAL));
    std::string_view view;
    RETURN_IF_ERROR(ReadText("text", text, len, &view));
    RETURN_IF_ERROR(model->impl->NeedTokenizer());
    std::vector<dsopt_token> found;
    RETURN_IF_ERROR(model->impl->tokenizer()->Encode(view, flags, &found));
    *out_count = found.size();
    if (found.size() > cap) {
      return Error(DSOPT_E_BUFFER_TOO_SMALL, "tokens: room for %zu, %zu needed", cap, found.size());
    }
    std::copy(found.begin(), found.end(), tokens);
    return DSOPT_OK;
  });
}

dsopt_status dsopt_detokenize(const dsopt_model* model, const dsopt_token* tokens, size_t count, uint32_t flags,
                              char* buf, size_t cap, size_t* out_len) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(model);
    RETURN_IF_ERROR(CheckArray("tokens", tokens, count));
    RETURN_IF_ERROR(CheckFlags("flags", flags, DSOPT_DETOKENIZE_SKIP_SPECIAL));
    RETURN_IF_ERROR(model->impl->NeedTokenizer());
    const uint32_t vocab =
        std::max(model->impl->model().config().vocab, model->impl->tokenizer()->vocab_size());
    for (size_t i = 0; i < count; ++i) {
      if (tokens[i] >= 0 && static_cast<uint32_t>(tokens[i]) < vocab) continue;
      return Error(DSOPT_E_INVALID_ARGUMENT, "tokens: %d at index %zu, expected 0 to %u", tokens[i], i,
                   vocab - 1);
    }
    std::string text;
    RETURN_IF_ERROR(model->impl->tokenizer()->Decode({tokens, count}, flags, &text));
    return WriteText(text, buf, cap, out_len);
  });
}

dsopt_status dsopt_chat_format(const dsopt_model* model, const dsopt_message* messages, size_t count,
                               uint32_t flags, char* buf, size_t cap, size_t* out_len) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(model);
    RETURN_IF_ERROR(CheckArray("messages", messages, count));
    RETURN_IF_ERROR(CheckFlags("flags", flags, DSOPT_CHAT_ADD_PROMPT));
    std::vector<ChatMessage> list;
    for (size_t i = 0; i < count; ++i) {
      ChatMessage message;
      if (messages[i].role == nullptr) return NullArgument("messages.role");
      message.role = messages[i].role;
      RETURN_IF_ERROR(
          ReadText("messages.content", messages[i].content, messages[i].content_len, &message.content));
      RETURN_IF_ERROR(CheckMessageText(i, "role", message.role));
      RETURN_IF_ERROR(CheckMessageText(i, "content", message.content));
      list.push_back(message);
    }
    ASSIGN_OR_RETURN(const std::string text,
                     model->impl->FormatChat(list, (flags & DSOPT_CHAT_ADD_PROMPT) != 0));
    return WriteText(text, buf, cap, out_len);
  });
}
