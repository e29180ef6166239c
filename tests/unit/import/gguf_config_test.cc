// Metadata of GGUF files as configurations: rotary scaling, families, and what is refused.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "import/gguf_import.h"
#include "import/tokenizer_import.h"
#include "tests/quantised/gguf_builder.h"

namespace dsopt {
namespace {

using testing::GgufBuilder;

GgufBuilder Llama() {
  GgufBuilder file;
  file.String("general.architecture", "llama");
  file.Uint("llama.context_length", 4096);
  file.Uint("llama.embedding_length", 64);
  file.Uint("llama.block_count", 2);
  file.Uint("llama.attention.head_count", 2);
  file.Uint("llama.attention.head_count_kv", 1);
  file.Uint("llama.feed_forward_length", 96);
  file.Float("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  file.Tensor("token_embd.weight", 0, {10, 64}, std::vector<uint8_t>(10 * 64 * 4));
  return file;
}

// The tensors of these files are read, if at all, while they are parsed.
Result<ConfigSpec> Parse(const GgufBuilder& file) {
  const std::vector<uint8_t> bytes = file.Bytes();
  ASSIGN_OR_RETURN(const GgufCheckpoint checkpoint, GgufCheckpoint::FromSource(MakeMemorySource(bytes)));
  return ParseGgufConfig(checkpoint);
}

LayerKind Kind(const GgufBuilder& file) {
  const Result<ConfigSpec> config = Parse(file);
  INFO(std::string(config.status().message()));
  REQUIRE(config.ok());
  return config->kinds.back();
}

void CheckRefused(const GgufBuilder& file, const std::string& says) {
  const Result<ConfigSpec> config = Parse(file);
  REQUIRE_FALSE(config.ok());
  CHECK(config.status().code() == DSOPT_E_UNSUPPORTED);
  CHECK_THAT(std::string(config.status().message()), Catch::Contains(says));
}

// What Llama 3's converter writes instead of the scaling's parameters.
std::vector<uint8_t> Llama3Factors(double factor, double original) {
  std::vector<uint8_t> bytes;
  for (int i = 0; i < 16; ++i) {
    const double wave = 2 * 3.14159265358979323846 * std::pow(500000.0, i / 16.0);
    double value = 1;
    if (wave > original / 1) {
      value = factor;
    } else if (wave > original / 4) {
      const double smooth = (original / wave - 1) / 3;
      value = 1 / ((1 - smooth) / factor + smooth);
    }
    const auto single = static_cast<float>(value);
    const auto* raw = reinterpret_cast<const uint8_t*>(&single);
    bytes.insert(bytes.end(), raw, raw + 4);
  }
  return bytes;
}

TEST_CASE("a GGUF Llama has the head size of its embedding and is tied where the output is missing",
          "[import]") {
  GgufBuilder file = Llama();
  Result<ConfigSpec> config = Parse(file);
  REQUIRE(config.ok());
  CHECK(config->architecture == "llama");
  CHECK(config->vocab == 10);
  CHECK(config->tie_embeddings);
  CHECK(config->layers.size() == 2);
  CHECK(config->kinds[0].attention.head_dim == 32);
  CHECK(config->kinds[0].attention.kv_heads == 1);
  CHECK(config->kinds[0].attention.rope.theta == 10000.0f);
  CHECK_FALSE(config->kinds[0].attention.rope.interleaved);
  CHECK(config->kinds[0].mlp.inner == 96);
  file.Tensor("output.weight", 0, {10, 64}, std::vector<uint8_t>(10 * 64 * 4));
  file.Uint("llama.attention.sliding_window", 128);
  config = Parse(file);
  REQUIRE(config.ok());
  CHECK_FALSE(config->tie_embeddings);
  CHECK(config->architecture == "mistral");
  CHECK(config->kinds[0].attention.window == 128);
}

TEST_CASE("GGUF rotary scaling is read from keys and from Llama 3's factors", "[import]") {
  GgufBuilder linear = Llama();
  linear.Float("llama.rope.scaling.factor", 4);
  linear.String("llama.rope.scaling.type", "linear");
  CHECK(Kind(linear).attention.rope.scaling == RopeScaling::kLinear);
  CHECK(Kind(linear).attention.rope.factor == 4.0f);
  GgufBuilder old = Llama();
  old.Float("llama.rope.scale_linear", 2);
  CHECK(Kind(old).attention.rope.scaling == RopeScaling::kLinear);
  GgufBuilder yarn = Llama();
  yarn.String("llama.rope.scaling.type", "yarn");
  yarn.Float("llama.rope.scaling.factor", 8);
  yarn.Uint("llama.rope.scaling.original_context_length", 512);
  RopeSpec rope = Kind(yarn).attention.rope;
  CHECK(rope.scaling == RopeScaling::kYarn);
  CHECK(rope.original_context == 512);
  CHECK(rope.attention_factor == 0.0f);
  yarn.Float("llama.rope.scaling.attn_factor", 0.5f);
  CHECK(Kind(yarn).attention.rope.attention_factor == Approx(0.5 * (0.1 * std::log(8.0) + 1)));

  GgufBuilder llama3 = Llama();
  llama3.Float("llama.rope.freq_base", 500000);
  GgufBuilder ones = llama3, other = llama3;
  llama3.Tensor("rope_freqs.weight", 0, {16}, Llama3Factors(8, 8192));
  rope = Kind(llama3).attention.rope;
  CHECK(rope.scaling == RopeScaling::kLlama3);
  CHECK(rope.factor == 8.0f);
  CHECK(rope.original_context == 8192);
  CHECK(rope.low_freq_factor == 1.0f);
  CHECK(rope.high_freq_factor == 4.0f);
  ones.Tensor("rope_freqs.weight", 0, {16}, Llama3Factors(1, 8192));
  CHECK(Kind(ones).attention.rope.scaling == RopeScaling::kNone);
  std::vector<uint8_t> factors = Llama3Factors(8, 8192);
  std::swap(factors[63], factors[3]);
  other.Tensor("rope_freqs.weight", 0, {16}, factors);
  CheckRefused(other, "rope_freqs.weight");
}

TEST_CASE("GGUF yarn of DeepSeek-V2 scales the scores and not the rotated values", "[import]") {
  GgufBuilder file;
  file.String("general.architecture", "deepseek2");
  file.Uint("deepseek2.context_length", 16384);
  file.Uint("deepseek2.embedding_length", 64);
  file.Uint("deepseek2.block_count", 3);
  file.Uint("deepseek2.attention.head_count", 2);
  file.Float("deepseek2.attention.layer_norm_rms_epsilon", 1e-6f);
  file.Uint("deepseek2.attention.kv_lora_rank", 32);
  file.Uint("deepseek2.attention.key_length", 24);
  file.Uint("deepseek2.attention.value_length", 16);
  file.Uint("deepseek2.rope.dimension_count", 8);
  file.String("deepseek2.rope.scaling.type", "yarn");
  file.Float("deepseek2.rope.scaling.factor", 40);
  file.Uint("deepseek2.rope.scaling.original_context_length", 4096);
  file.Float("deepseek2.rope.scaling.yarn_log_multiplier", 0.0707f);
  file.Uint("deepseek2.leading_dense_block_count", 1);
  file.Uint("deepseek2.feed_forward_length", 96);
  file.Uint("deepseek2.expert_feed_forward_length", 48);
  file.Uint("deepseek2.expert_count", 8);
  file.Uint("deepseek2.expert_used_count", 3);
  file.Uint("deepseek2.expert_shared_count", 2);
  file.Tensor("token_embd.weight", 0, {10, 64}, std::vector<uint8_t>(10 * 64 * 4));
  const Result<ConfigSpec> config = Parse(file);
  INFO(std::string(config.status().message()));
  REQUIRE(config.ok());
  CHECK(config->architecture == "deepseek_v2");
  CHECK(config->layers == std::vector<uint8_t>{0, 1, 1});
  const LayerKind& kind = config->kinds[1];
  CHECK(kind.attention.rope.mscale == Approx(0.707));
  CHECK(kind.attention.rope.mscale_all_dim == Approx(0.707));
  CHECK(kind.attention.rope.attention_factor == 1.0f);
  CHECK(kind.attention.rope.interleaved);
  CHECK(kind.attention.q_lora_rank == 0);
  CHECK(kind.attention.nope_dim == 16);
  CHECK(kind.attention.kv_heads == 2);
  CHECK(kind.mlp.moe.shared_inner == 96);
  CHECK(kind.mlp.moe.groups == 0);
  CHECK(kind.mlp.moe.route_scale == 1.0f);
  GgufBuilder sigmoid = file;
  sigmoid.Uint("deepseek2.expert_gating_func", 2);
  CheckRefused(sigmoid, "expert_gating_func is 2");
  file.Tensor("blk.1.exp_probs_b.bias", 0, {8}, std::vector<uint8_t>(32));
  CheckRefused(file, "exp_probs_b");
}

TEST_CASE("GGUF metadata that cannot be honoured is refused by key and value", "[import]") {
  const auto with = [](auto put) {
    GgufBuilder file = Llama();
    put(&file);
    return file;
  };
  GgufBuilder other;
  other.String("general.architecture", "gemma2");
  CheckRefused(other, "general.architecture is 'gemma2'");
  CheckRefused(with([](GgufBuilder* f) { f->Uint("llama.rope.dimension_count", 16); }),
               "rope.dimension_count is 16");
  CheckRefused(with([](GgufBuilder* f) { f->Uint("llama.attention.value_length", 16); }), "value_length is 16");
  CheckRefused(with([](GgufBuilder* f) { f->String("llama.rope.scaling.type", "longrope"); }), "'longrope'");
  CheckRefused(with([](GgufBuilder* f) { f->Float("llama.logit_scale", 0.5f); }), "llama.logit_scale is 0.5");
  CheckRefused(with([](GgufBuilder* f) { f->Bool("llama.attention.causal", false); }),
               "attention.causal is false");
  CheckRefused(with([](GgufBuilder* f) { f->Uint("llama.expert_count", 4); }), "expert_used_count is absent");
}

// Bytes that stand for themselves and two control tokens, after GPT-2's way.
GgufBuilder ByteLevelVocabulary(const std::string& pre) {
  GgufBuilder file;
  file.String("tokenizer.ggml.model", "gpt2");
  if (!pre.empty()) file.String("tokenizer.ggml.pre", pre);
  file.Strings("tokenizer.ggml.tokens",
               {"a", "b", "ab", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "[x]"});
  file.Ints("tokenizer.ggml.token_type", {1, 1, 1, 3, 3, 3, 4});
  file.Strings("tokenizer.ggml.merges", {"a b"});
  file.Uint("tokenizer.ggml.bos_token_id", 3);
  file.Uint("tokenizer.ggml.eos_token_id", 4);
  return file;
}

Result<TokenizerSpec> Vocabulary(const GgufBuilder& file) {
  const std::vector<uint8_t> bytes = file.Bytes();
  const std::unique_ptr<Source> source = MakeMemorySource(bytes);
  ASSIGN_OR_RETURN(const GgufHeader header, ReadGgufHeader(*source));
  return ImportGgufVocab(header);
}

TEST_CASE("a GGUF vocabulary of Llama 3 begins with its begin token and ends with every end token",
          "[import]") {
  const Result<TokenizerSpec> spec = Vocabulary(ByteLevelVocabulary("llama-bpe"));
  INFO(std::string(spec.status().message()));
  REQUIRE(spec.ok());
  CHECK(spec->pre_tokenizer == PreTokenizer::kLlama3);
  CHECK(spec->ignore_merges);
  CHECK(spec->prefix == std::vector<int32_t>{3});
  CHECK(spec->end_tokens == std::vector<int32_t>{4, 5});
  CHECK(spec->merges.size() == 1);
  REQUIRE(spec->added.size() == 4);
  CHECK(spec->added[0].special);
  CHECK_FALSE(spec->added[3].special);
  GgufBuilder silent = ByteLevelVocabulary("llama-bpe");
  silent.Bool("tokenizer.ggml.add_bos_token", false);
  CHECK(Vocabulary(silent)->prefix.empty());
  CHECK(Vocabulary(ByteLevelVocabulary("gpt-2"))->prefix.empty());
}

TEST_CASE("GGUF vocabularies of known pre-tokenizers are read and others named", "[import]") {
  for (const char* pre :
       {"gpt-2", "llama3", "llama-v3", "deepseek-llm", "deepseek-coder", "deepseek-v3", "qwen2"}) {
    CAPTURE(pre);
    CHECK(Vocabulary(ByteLevelVocabulary(pre)).ok());
  }
  const std::pair<const char*, const char*> unknown[] = {
      {"tekken", "tokenizer.ggml.pre is 'tekken'"}, {"default", "is 'default'"}, {"", "is absent"}};
  for (const auto& [pre, says] : unknown) {
    const Status status = Vocabulary(ByteLevelVocabulary(pre)).status();
    CHECK(status.code() == DSOPT_E_UNSUPPORTED);
    CHECK_THAT(std::string(status.message()), Catch::Contains(says) && Catch::Contains("llama-bpe"));
  }
  GgufBuilder file;
  file.String("tokenizer.ggml.model", "bert");
  CHECK_THAT(std::string(Vocabulary(file).status().message()),
             Catch::Contains("tokenizer.ggml.model is 'bert'"));
}

}  // namespace
}  // namespace dsopt
