// Values derived from a configuration. Expected numbers were computed in double precision by a separate program
// from the formulas of the published implementations.
#include "model/config.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "model/arch/architecture.h"
#include "model/model.h"
#include "tests/tiny_model.h"

namespace dsopt {
namespace {

using testing::TinyFamily;
using testing::TinyOptions;
using testing::TinySpec;

Approx Near(double value) { return Approx(value).epsilon(1e-6); }

TEST_CASE("plain and linear rotary frequencies fall geometrically", "[model]") {
  RopeSpec rope;
  rope.theta = 10000.0f;
  rope.dim = 8;
  const RopeTable plain = MakeRopeTable(rope);
  REQUIRE(plain.inv_freq.size() == 4);
  CHECK(plain.inv_freq[0] == 1.0f);
  CHECK(plain.inv_freq[1] == Near(0.1));
  CHECK(plain.inv_freq[3] == Near(0.001));
  CHECK(plain.scale == 1.0f);
  rope.scaling = RopeScaling::kLinear;
  rope.factor = 4.0f;
  CHECK(MakeRopeTable(rope).inv_freq[1] == Near(0.025));
}

TEST_CASE("llama3 scaling of Llama-3.1-8B keeps short waves and stretches long ones", "[model]") {
  RopeSpec rope;
  rope.theta = 500000.0f;
  rope.dim = 128;
  rope.scaling = RopeScaling::kLlama3;
  rope.factor = 8.0f;
  rope.original_context = 8192;
  const RopeTable table = MakeRopeTable(rope);
  CHECK(table.inv_freq[0] == 1.0f);
  CHECK(table.inv_freq[28] == Near(0.00321144599));
  CHECK(table.inv_freq[29] == Near(0.00216657076));
  CHECK(table.inv_freq[30] == Near(0.00137189357));
  CHECK(table.inv_freq[32] == Near(0.000524846161));
  CHECK(table.inv_freq[35] == Near(9.55621235e-05));
  CHECK(table.inv_freq[36] == Near(7.78465527e-05));
  CHECK(table.inv_freq[63] == Near(3.06892599e-07));
}

TEST_CASE("yarn of DeepSeek-V2 ramps between its two corrected dimensions and scales the scores", "[model]") {
  LayerKind kind;
  kind.mixer = Mixer::kMla;
  kind.attention.head_dim = 192;
  RopeSpec& rope = kind.attention.rope;
  rope.theta = 10000.0f;
  rope.dim = 64;
  rope.scaling = RopeScaling::kYarn;
  rope.factor = 40.0f;
  rope.original_context = 4096;
  rope.mscale = rope.mscale_all_dim = 0.707f;
  const RopeTable table = MakeRopeTable(rope);
  CHECK(table.inv_freq[0] == 1.0f);
  CHECK(table.inv_freq[10] == Near(0.0562341325));
  CHECK(table.inv_freq[11] == Near(0.0390069266));
  CHECK(table.inv_freq[15] == Near(0.00833450895));
  CHECK(table.inv_freq[20] == Near(0.000790569415));
  CHECK(table.inv_freq[23] == Near(3.33380358e-05));
  CHECK(table.inv_freq[31] == Near(3.33380358e-06));
  CHECK(table.scale == Near(1.0));
  CHECK(ScoreScale(kind) == Near(0.114721387));
  rope.mscale_all_dim = 0;
  CHECK(MakeRopeTable(rope).scale == Near(1.26080378));
  CHECK(ScoreScale(kind) == Near(1 / std::sqrt(192.0)));
}

TEST_CASE("plain yarn scales cos and sin by 0.1 ln(factor) + 1 unless the file says otherwise", "[model]") {
  LayerKind kind;
  kind.attention.head_dim = 64;
  RopeSpec& rope = kind.attention.rope;
  rope.dim = 64;
  rope.scaling = RopeScaling::kYarn;
  rope.factor = 4.0f;
  rope.original_context = 4096;
  CHECK(MakeRopeTable(rope).scale == Near(1.13862944));
  CHECK(ScoreScale(kind) == 0.125f);
  rope.attention_factor = 1.5f;
  CHECK(MakeRopeTable(rope).scale == 1.5f);
  kind.attention.scale = 0.25f;
  CHECK(ScoreScale(kind) == 0.25f);
}

TEST_CASE("a page holds all layers one after the other", "[model]") {
  const ConfigSpec llama = TinySpec({.family = TinyFamily::kLlama}).config;
  const PageLayout pages = MakePageLayout(llama, DSOPT_BF16);
  const uint64_t layer_bytes = 2 * 2 * 16 * 64 * 2;  // keys and values, 2 heads of 16, 64 positions, bf16
  CHECK(pages.layer_offsets == std::vector<uint64_t>{0, layer_bytes});
  CHECK(pages.page_bytes == 2 * layer_bytes);
  CHECK(MakePageLayout(llama, DSOPT_F32).page_bytes == 4 * layer_bytes);
  const ConfigSpec deepseek = TinySpec({.family = TinyFamily::kDeepseekV2}).config;
  CHECK(MakePageLayout(deepseek, DSOPT_BF16).page_bytes == 2 * (32 + 8) * 64 * 2);
}

TEST_CASE("a coded cache takes codes and one word of 32 bits for each group", "[model]") {
  CHECK(CacheVectorBytes(DSOPT_F8_E4M3, 128) == 132);
  CHECK(CacheVectorBytes(DSOPT_I8, 64) == 68);
  CHECK(CacheVectorBytes(DSOPT_I4, 128) == 64 + 4 * 4);
  CHECK(CacheVectorBytes(DSOPT_I4, 72) == 36 + 3 * 4);
  const ConfigSpec llama = TinySpec({.family = TinyFamily::kLlama}).config;
  CHECK(MakePageLayout(llama, DSOPT_I8).page_bytes == 2 * (2 * 2 * (16 + 4) * 64));
  CHECK(MakePageLayout(llama, DSOPT_I4).page_bytes == 2 * (2 * 2 * (8 + 4) * 64));
  const ConfigSpec deepseek = TinySpec({.family = TinyFamily::kDeepseekV2}).config;
  CHECK(MakePageLayout(deepseek, DSOPT_F8_E4M3).page_bytes == 2 * (32 + 4 + 8 + 4) * 64);
  CHECK(MakePageLayout(deepseek, DSOPT_I4).page_bytes == 2 * (16 + 4 + 4 + 4) * 64);
  CHECK(IsCacheType(DSOPT_I4));
  CHECK(!IsCacheType(DSOPT_U8));
}

TEST_CASE("layers in a page start at multiples of 256 bytes", "[model]") {
  ConfigSpec config = TinySpec({.family = TinyFamily::kDeepseekV2}).config;
  for (LayerKind& kind : config.kinds) kind.attention.kv_lora_rank = 33;
  const PageLayout pages = MakePageLayout(config, DSOPT_BF16);
  CHECK((33 + 8) * 64 * 2 % 256 != 0);
  CHECK(pages.layer_offsets[1] == 5376);
  CHECK(pages.page_bytes == 2 * 5376);
}

void CheckRefused(const ConfigSpec& config, dsopt_code code, const std::string& word) {
  ModelSpec spec;
  spec.config = config;
  const Result<std::shared_ptr<Model>> model = Model::Create(std::move(spec), Logger());
  CAPTURE(word);
  REQUIRE_FALSE(model.ok());
  CHECK(model.status().code() == code);
  CHECK_THAT(std::string(model.status().message()), Catch::Contains(word));
}

TEST_CASE("a configuration that contradicts itself is refused by field", "[model]") {
  const auto with = [](TinyFamily family, void (*change)(ConfigSpec*)) {
    ConfigSpec config = TinySpec({.family = family}).config;
    change(&config);
    return config;
  };
  const TinyFamily llama = TinyFamily::kLlama, deepseek = TinyFamily::kDeepseekV2,
                   mixtral = TinyFamily::kMixtral;
  const dsopt_code corrupt = DSOPT_E_CORRUPT, unsupported = DSOPT_E_UNSUPPORTED;
  CheckRefused(ConfigSpec(), corrupt, "hidden");
  CheckRefused(with(llama, [](ConfigSpec* c) { c->vocab = 0; }), corrupt, "vocab");
  CheckRefused(with(llama, [](ConfigSpec* c) { c->vocab = UINT32_MAX; }), corrupt, "vocab");
  CheckRefused(with(llama, [](ConfigSpec* c) { c->layers.clear(); }), corrupt, "layers");
  CheckRefused(with(llama, [](ConfigSpec* c) { c->layers[1] = 7; }), corrupt, "kind");
  CheckRefused(with(llama, [](ConfigSpec* c) { c->kinds[0].attention.kv_heads = 3; }), corrupt, "multiple");
  CheckRefused(with(llama, [](ConfigSpec* c) { c->kinds[0].attention.q_heads = 0; }), corrupt, "q_heads");
  CheckRefused(with(llama, [](ConfigSpec* c) { c->kinds[0].attention.rope.dim = 15; }), corrupt, "rope.dim");
  CheckRefused(with(llama, [](ConfigSpec* c) { c->kinds[0].attention.rope.dim = 32; }), corrupt, "rope.dim");
  CheckRefused(with(llama, [](ConfigSpec* c) { c->kinds[0].attention.rope.theta = -1; }), corrupt, "theta");
  CheckRefused(
      with(llama, [](ConfigSpec* c) { c->kinds[0].norm_eps = std::numeric_limits<float>::quiet_NaN(); }),
      corrupt, "norm_eps");
  CheckRefused(with(llama, [](ConfigSpec* c) { c->kinds[0].mlp.inner = 0; }), corrupt, "inner");
  CheckRefused(with(llama, [](ConfigSpec* c) { c->kinds[0].mlp.activation = static_cast<Activation>(9); }),
               corrupt, "activation");
  CheckRefused(with(llama, [](ConfigSpec* c) { c->kinds[0].mixer = static_cast<Mixer>(9); }), corrupt, "mixer");
  CheckRefused(with(deepseek, [](ConfigSpec* c) { c->kinds[0].attention.head_dim = 25; }), corrupt, "head_dim");
  CheckRefused(with(deepseek, [](ConfigSpec* c) { c->kinds[1].mlp.moe.groups = 3; }), corrupt, "groups");
  CheckRefused(with(mixtral, [](ConfigSpec* c) { c->kinds[0].mlp.moe.top_k = 5; }), corrupt, "top_k");
  CheckRefused(with(llama, [](ConfigSpec* c) { c->architecture = "gpt2"; }), unsupported, "mixtral");
  CheckRefused(with(llama, [](ConfigSpec* c) { c->kinds[0].attention.window = 9; }), unsupported, "window");
  CheckRefused(with(mixtral, [](ConfigSpec* c) { c->architecture = "mistral"; }), unsupported, "experts");
  CheckRefused(with(deepseek, [](ConfigSpec* c) { c->architecture = "llama"; }), unsupported, "latent");
  CheckRefused(with(llama, [](ConfigSpec* c) { c->architecture = "deepseek_v2"; }), unsupported, "latent");
  CheckRefused(with(llama, [](ConfigSpec* c) { c->architecture = "mixtral"; }), unsupported, "dense");
}

TEST_CASE("a model counts its parameters and its cache bytes without loading", "[model]") {
  Result<std::shared_ptr<Model>> model = Model::Create(TinySpec({.family = TinyFamily::kMistral}), Logger());
  REQUIRE(model.ok());
  const uint64_t attention = 64 * 64 + 2 * 32 * 64 + 64 * 64, mlp = 3 * 96 * 64;
  CHECK((*model)->parameter_count() == 272 * 64 + 2 * (attention + mlp + 2 * 64) + 64);
  CHECK((*model)->kv_bytes_per_token(DSOPT_DTYPE_DEFAULT) == 2 * 2 * 2 * 16 * 2);
  CHECK((*model)->kv_bytes_per_token(DSOPT_F32) == 2 * 2 * 2 * 16 * 4);
  CHECK_FALSE((*model)->loaded());
  CHECK((*model)->device() == nullptr);
  CHECK((*model)->Plan(DSOPT_DTYPE_DEFAULT, DSOPT_PRECISION_FAST).status().code() == DSOPT_E_INVALID_STATE);
}

}  // namespace
}  // namespace dsopt
