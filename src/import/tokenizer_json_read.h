// tokenizer_json_read.h - JSON access for the tokenizer importers: bounded parsing, and getters that neither
// throw nor convert.
#ifndef DSOPT_IMPORT_TOKENIZER_JSON_READ_H_
#define DSOPT_IMPORT_TOKENIZER_JSON_READ_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "spec/tokenizer_spec.h"

namespace dsopt {

using Json = nlohmann::json;

// `what` names the document in errors.
Result<Json> ParseJson(std::string_view text, const char* what);

// The member, or a shared null value when object is no object or lacks it.
const Json& Member(const Json& object, const char* key);
// Empty when the member is absent or no string.
std::string_view StringMember(const Json& object, const char* key);
bool BoolMember(const Json& object, const char* key, bool missing);
// A non-negative integer below 2^31.
std::optional<uint32_t> AsId(const Json& value);

// The parts of tokenizer.json around the model. Each fails with DSOPT_E_UNSUPPORTED on what text/ cannot do.
Status ReadNormalizer(const Json& normalizer, TokenizerSpec* spec);
// *byte_level says whether pieces are spelled in GPT-2's printable bytes.
Status ReadPreTokenizer(const Json& pre_tokenizer, TokenizerSpec* spec, bool* byte_level);
Status ReadPostProcessor(const Json& post_processor, TokenizerSpec* spec);
Status ReadDecoder(const Json& decoder, TokenizerSpec* spec);

// Applies tokenizer_config.json / special_tokens_map.json and generation_config.json. `find` maps a token's
// text to its id, -1 if there is none.
template <typename Find>
void ReadSpecialTokens(const Json& config, Find find, TokenizerSpec* spec) {
  const auto id_of = [&](const char* key) -> int32_t {
    const Json& value = Member(config, key);
    const std::string* text = value.get_ptr<const std::string*>();
    if (text == nullptr) text = Member(value, "content").get_ptr<const std::string*>();
    return text == nullptr ? -1 : find(std::string_view(*text));
  };
  if (const int32_t id = id_of("bos_token"); id >= 0) spec->bos = id;
  if (const int32_t id = id_of("eos_token"); id >= 0) spec->eos = id;
  if (const int32_t id = id_of("pad_token"); id >= 0) spec->pad = id;
  if (const int32_t id = id_of("unk_token"); id >= 0 && spec->unk < 0) spec->unk = id;
}
Status ReadGenerationConfig(const Json& config, TokenizerSpec* spec);
// add_bos_token and add_eos_token, which Llama's tokenizer classes put above the post-processor.
void ReadAddFlags(const Json& config, TokenizerSpec* spec);
// Makes end_tokens sorted, unique and include eos.
void FinishEndTokens(TokenizerSpec* spec);

// GPT-2's printable spelling of bytes back to the bytes; nullopt if a character does not stand for a byte.
std::optional<std::string> DecodePrintableBytes(std::string_view piece);

}  // namespace dsopt
#endif  // DSOPT_IMPORT_TOKENIZER_JSON_READ_H_
