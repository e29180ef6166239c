// tokenizer_json_stages.cc - the normalizer, pre-tokenizer, post-processor and decoder of tokenizer.json. The
// published pipelines are recognised by their exact text; nothing is approximated.
#include <algorithm>
#include <array>

#include "import/tokenizer_json_read.h"
#include "text/pretokenize.h"

namespace dsopt {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

Status Unsupported(const char* stage, std::string_view found, const char* why) {
  return Error(DSOPT_E_UNSUPPORTED, "tokenizer.json: %s '%.*s' is not supported%s%s", stage,
               static_cast<int>(std::min<size_t>(found.size(), 80)), found.data(), *why == '\0' ? "" : ": ",
               why);
}

// The elements of a (nested) Sequence, or the one element itself; nothing for null.
void Flatten(const Json& stage, const char* list, std::vector<const Json*>* out) {
  if (stage.is_null()) return;
  if (StringMember(stage, "type") == "Sequence") {
    const Json& inner = Member(stage, list);
    if (inner.is_array()) {
      for (const Json& element : inner) Flatten(element, list, out);
      return;
    }
  }
  out->push_back(&stage);
}

// TokenizerSpec's normalizer runs in this order; a Sequence must not go back.
enum NormalizerOrder { kStrip, kUnicode, kReplace, kSpaces };

Status ReadOneNormalizer(const Json& stage, int* order, TokenizerSpec* spec) {
  const std::string_view type = StringMember(stage, "type");
  int own = kStrip;
  if (type == "Strip") {
    spec->strip_left = BoolMember(stage, "strip_left", true);
    spec->strip_right = BoolMember(stage, "strip_right", true);
  } else if (type == "NFC" || type == "NFKC") {
    own = kUnicode;
    (type == "NFC" ? spec->nfc : spec->nfkc) = true;
  } else if (type == "Prepend") {
    own = kSpaces;
    if (StringMember(stage, "prepend") != kSpace) {
      return Unsupported("Prepend", StringMember(stage, "prepend"), "only U+2581 is");
    }
    spec->add_dummy_prefix = true;
  } else if (type == "Replace") {
    const std::string_view from = StringMember(Member(stage, "pattern"), "String");
    const std::string_view to = StringMember(stage, "content");
    if (from.empty())
      return Unsupported("Replace", Member(stage, "pattern").type_name(), "only a String pattern is");
    own = from == " " && to == kSpace ? kSpaces : kReplace;
    if (own == kSpaces)
      spec->escape_spaces = true;
    else
      spec->replacements.emplace_back(from, to);
  } else {
    return Unsupported("normalizer", type, "");
  }
  if (own < *order) return Unsupported("normalizer order at", type, "");
  *order = own;
  return {};
}

Status ReadMetaspace(const Json& stage, TokenizerSpec* spec) {
  if (StringMember(stage, "replacement") != kSpace) {
    return Unsupported("Metaspace replacement", StringMember(stage, "replacement"), "only U+2581 is");
  }
  std::string_view scheme = StringMember(stage, "prepend_scheme");
  if (scheme.empty()) scheme = BoolMember(stage, "add_prefix_space", true) ? "always" : "never";
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    return Unsupported("Metaspace prepend_scheme", scheme, "");
  }
  if (spec->add_dummy_prefix || spec->escape_spaces) {
    return Unsupported("pre-tokenizer", "Metaspace", "the normalizer escapes spaces already");
  }
  spec->escape_spaces = true;
  spec->add_dummy_prefix = scheme != "never";
  spec->prefix_unless_space = spec->add_dummy_prefix;
  spec->prefix_first_only = scheme == "first";
  if (BoolMember(stage, "split", true)) spec->pre_tokenizer = PreTokenizer::kMetaspaceSplit;
  return {};
}

// Some files spell a newline in a pattern as the character, some as the escape.
std::string EscapeNewlines(std::string_view pattern) {
  std::string out;
  for (const char c : pattern) {
    if (c == '\r')
      out += "\\r";
    else if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out;
}

constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kDeepseekV3Pattern =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kDeepseekCjkPattern = "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+";
constexpr const char* kDeepseekV3CjkPattern = "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+";
constexpr const char* kDeepseekPunctuationPattern =
    "\\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+";
constexpr const char* kSingleDigits = "<Digits>";

PreTokenizer RecogniseSplits(const std::vector<std::string>& splits) {
  using List = std::vector<std::string>;
  if (splits == List{kGpt2Pattern}) return PreTokenizer::kGpt2;
  if (splits == List{kLlama3Pattern}) return PreTokenizer::kLlama3;
  if (splits == List{kQwen2Pattern}) return PreTokenizer::kQwen2;
  if (splits == List{"\\p{N}{1,3}", kDeepseekV3CjkPattern, kDeepseekV3Pattern})
    return PreTokenizer::kDeepseekV3;
  for (const char* digits : {kSingleDigits, "\\p{N}"}) {
    if (splits == List{"[\\r\\n]", DeepseekLetterPattern(), kDeepseekPunctuationPattern, "\\s+$",
                       kDeepseekCjkPattern, digits}) {
      return PreTokenizer::kDeepseekLlm;
    }
    if (splits == List{"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", kDeepseekCjkPattern, digits}) {
      return PreTokenizer::kDeepseekCoder;
    }
  }
  return PreTokenizer::kNone;
}

// The pattern of a Split or Digits that cuts its matches out as pieces.
Result<std::string> ReadSplit(const Json& stage, bool alone) {
  const std::string_view type = StringMember(stage, "type");
  if (type == "Digits") {
    if (!BoolMember(stage, "individual_digits", false)) {
      return Unsupported("pre-tokenizer", "Digits", "only with individual_digits");
    }
    return std::string(kSingleDigits);
  }
  if (type != "Split") return Unsupported("pre-tokenizer", type, "");
  const std::string_view pattern = StringMember(Member(stage, "pattern"), "Regex");
  const std::string_view behavior = StringMember(stage, "behavior");
  const bool invert = BoolMember(stage, "invert", false);
  if (pattern.empty()) return Unsupported("Split", "String", "only a Regex pattern is");
  // Removing what does not match cuts as Isolated does when the pattern matches everything.
  if (!(behavior == "Isolated" && !invert) && !(behavior == "Removed" && invert && alone)) {
    return Unsupported("Split behavior", behavior, "");
  }
  return EscapeNewlines(pattern);
}

}  // namespace

Status ReadNormalizer(const Json& normalizer, TokenizerSpec* spec) {
  std::vector<const Json*> stages;
  Flatten(normalizer, "normalizers", &stages);
  int order = kStrip;
  for (const Json* stage : stages) RETURN_IF_ERROR(ReadOneNormalizer(*stage, &order, spec));
  return {};
}

Status ReadPreTokenizer(const Json& pre_tokenizer, TokenizerSpec* spec, bool* byte_level) {
  std::vector<const Json*> stages;
  Flatten(pre_tokenizer, "pretokenizers", &stages);
  *byte_level = false;
  if (stages.empty()) return {};
  if (stages.size() == 1 && StringMember(*stages[0], "type") == "Metaspace")
    return ReadMetaspace(*stages[0], spec);
  const Json& last = *stages.back();
  if (StringMember(last, "type") != "ByteLevel") {
    return Unsupported("pre-tokenizer", StringMember(last, "type"), "expected ByteLevel at the end");
  }
  *byte_level = true;
  spec->add_prefix_space = BoolMember(last, "add_prefix_space", true);
  const bool use_regex = BoolMember(last, "use_regex", true);
  if (stages.size() == 1) {
    spec->pre_tokenizer = use_regex ? PreTokenizer::kGpt2 : PreTokenizer::kNone;
    return {};
  }
  if (spec->add_prefix_space || use_regex) {
    return Unsupported("pre-tokenizer", "ByteLevel",
                       "after a Split only without add_prefix_space and use_regex");
  }
  std::vector<std::string> splits;
  for (size_t i = 0; i + 1 < stages.size(); ++i) {
    ASSIGN_OR_RETURN(std::string split, ReadSplit(*stages[i], stages.size() == 2));
    splits.push_back(std::move(split));
  }
  spec->pre_tokenizer = RecogniseSplits(splits);
  if (spec->pre_tokenizer == PreTokenizer::kNone) {
    return Unsupported("pre-tokenizer Split", splits.front(), "not one of the known lists of expressions");
  }
  return {};
}

Status ReadPostProcessor(const Json& post_processor, TokenizerSpec* spec) {
  std::vector<const Json*> stages;
  Flatten(post_processor, "processors", &stages);
  for (const Json* stage : stages) {
    const std::string_view type = StringMember(*stage, "type");
    if (type == "ByteLevel") continue;
    if (type != "TemplateProcessing") return Unsupported("post-processor", type, "");
    bool after = false;
    for (const Json& item : Member(*stage, "single")) {
      const Json& special = Member(item, "SpecialToken");
      if (special.is_null()) {
        if (after) return Unsupported("TemplateProcessing", "single", "the text occurs twice");
        after = true;
        continue;
      }
      const std::string name(StringMember(special, "id"));
      const Json& ids = Member(Member(Member(*stage, "special_tokens"), name.c_str()), "ids");
      if (!ids.is_array()) {
        return Error(DSOPT_E_CORRUPT, "tokenizer.json: template token '%.80s' has no ids", name.c_str());
      }
      for (const Json& value : ids) {
        const std::optional<uint32_t> id = AsId(value);
        if (!id)
          return Error(DSOPT_E_CORRUPT, "tokenizer.json: an id of template token '%.80s' is no id",
                       name.c_str());
        (after ? spec->suffix : spec->prefix).push_back(static_cast<int32_t>(*id));
      }
    }
  }
  return {};
}

Status ReadDecoder(const Json& decoder, TokenizerSpec* spec) {
  std::vector<const Json*> stages;
  Flatten(decoder, "decoders", &stages);
  for (const Json* stage : stages) {
    const std::string_view type = StringMember(*stage, "type");
    if (type == "ByteLevel" || type == "ByteFallback" || type == "Fuse") continue;
    if (type == "Metaspace") {
      const std::string_view scheme = StringMember(*stage, "prepend_scheme");
      spec->strip_leading_space =
          scheme.empty() ? BoolMember(*stage, "add_prefix_space", true) : scheme != "never";
    } else if (type == "Replace") {
      if (StringMember(Member(*stage, "pattern"), "String") != kSpace ||
          StringMember(*stage, "content") != " ") {
        return Unsupported("decoder Replace", StringMember(*stage, "content"), "only U+2581 by a space is");
      }
    } else if (type == "Strip") {
      const std::optional<uint32_t> start = AsId(Member(*stage, "start")), stop = AsId(Member(*stage, "stop"));
      if (StringMember(*stage, "content") != " " || !start || *start > 1 || !stop || *stop != 0) {
        return Unsupported("decoder", "Strip", "only of one leading space");
      }
      spec->strip_leading_space = *start == 1;
    } else {
      return Unsupported("decoder", type, "");
    }
  }
  return {};
}

}  // namespace dsopt
