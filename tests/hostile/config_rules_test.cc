// The rules of VerifyConfig and VerifySampling.
#include <catch2/catch.hpp>
#include <cmath>

#include "format/verify.h"
#include "tests/hostile/rules.h"
#include "tests/unit/format/spec_builder.h"

namespace dsopt::testing {
namespace {

AttentionSpec& Attention(ModelSpec& spec) { return spec.config.kinds[0].attention; }
RopeSpec& Rope(ModelSpec& spec) { return Attention(spec).rope; }
AttentionSpec& Latent(ModelSpec& spec) { return spec.config.kinds[1].attention; }
MoeSpec& Moe(ModelSpec& spec) { return spec.config.kinds[1].mlp.moe; }

const Rule kModelRules[] = {
    {"architecture is not empty", [](auto& s) { s.config.architecture = ""; }, "length of architecture is 0"},
    {"architecture is short", [](auto& s) { s.config.architecture.assign(32, 'a'); },
     "length of architecture is 32"},
    {"architecture is a plain name", [](auto& s) { s.config.architecture = "../llama"; },
     "architecture has other"},
    {"hidden > 0", [](auto& s) { s.config.hidden = 0; }, "hidden is 0"},
    {"hidden <= 65536", [](auto& s) { s.config.hidden = 65537; }, "hidden is 65537, expected 1 to 65536"},
    {"vocab > 0", [](auto& s) { s.config.vocab = 0; }, "vocab is 0"},
    {"vocab <= 2^21", [](auto& s) { s.config.vocab = 2097153; }, "vocab is 2097153"},
    {"context > 0", [](auto& s) { s.config.context = 0; }, "context is 0"},
    {"context <= 2^24", [](auto& s) { s.config.context = 16777217; }, "context is 16777217"},
    {"there are kinds", [](auto& s) { s.config.kinds.clear(); }, "number of layer kinds is 0"},
    {"kinds <= 256", [](auto& s) { s.config.kinds.resize(257, s.config.kinds[0]); },
     "number of layer kinds is 257"},
    {"there are layers", [](auto& s) { s.config.layers.clear(); }, "number of layers is 0"},
    {"layers <= 1024", [](auto& s) { s.config.layers.assign(1025, 0); }, "number of layers is 1025"},
    {"kind of a layer exists", [](auto& s) { s.config.layers[1] = 2; },
     "layer 1: its kind is 2, expected 0 to 1"},
    {"embedding_scale is finite", [](auto& s) { s.config.embedding_scale = INFINITY; },
     "embedding_scale is inf"},
    {"final_norm_eps is a number", [](auto& s) { s.config.final_norm_eps = NAN; }, "final_norm_eps is nan"},
    {"final_norm_eps >= 0", [](auto& s) { s.config.final_norm_eps = -1e-5f; }, "final_norm_eps is -1e-05"},
    {"norm_eps <= 1", [](auto& s) { s.config.kinds[0].norm_eps = 2; }, "layer kind 0: norm_eps is 2"},
    {"latent_norm_eps is a number", [](auto& s) { s.config.kinds[1].latent_norm_eps = NAN; },
     "layer kind 1: latent_norm_eps is nan"},
    {"mixer is known", [](auto& s) { s.config.kinds[0].mixer = static_cast<Mixer>(2); }, "mixer is 2",
     DSOPT_E_VERSION},
    {"activation is known", [](auto& s) { s.config.kinds[0].mlp.activation = static_cast<Activation>(3); },
     "activation is 3", DSOPT_E_VERSION},
    {"activation is given", [](auto& s) { s.config.kinds[0].mlp.activation = static_cast<Activation>(0); },
     "activation is 0", DSOPT_E_VERSION},
    {"rope scaling is known", [](auto& s) { Rope(s).scaling = static_cast<RopeScaling>(4); },
     "rope.scaling is 4", DSOPT_E_VERSION},
    {"temperature is a number", [](auto& s) { s.sampling.temperature = NAN; }, "temperature is nan"},
    {"temperature >= 0", [](auto& s) { s.sampling.temperature = -1; }, "temperature is -1"},
    {"top_p <= 1", [](auto& s) { s.sampling.top_p = 1.5f; }, "top_p is 1.5, expected 0 to 1"},
    {"min_p >= 0", [](auto& s) { s.sampling.min_p = -0.5f; }, "min_p is -0.5"},
    {"repeat_penalty is finite", [](auto& s) { s.sampling.repeat_penalty = INFINITY; },
     "repeat_penalty is inf"},
};

const Rule kAttentionRules[] = {
    {"q_heads > 0", [](auto& s) { Attention(s).q_heads = 0; }, "layer kind 0: q_heads is 0"},
    {"q_heads <= 4096", [](auto& s) { Attention(s).q_heads = 4097; }, "q_heads is 4097"},
    {"kv_heads > 0", [](auto& s) { Attention(s).kv_heads = 0; }, "kv_heads is 0"},
    {"kv_heads <= q_heads", [](auto& s) { Attention(s).kv_heads = 5; }, "kv_heads is 5, expected 1 to 4"},
    {"kv_heads divide q_heads", [](auto& s) { Attention(s).kv_heads = 3; },
     "kv_heads is 3, expected a divisor"},
    {"head_dim > 0", [](auto& s) { Attention(s).head_dim = 0; }, "head_dim is 0"},
    {"head_dim <= 1024", [](auto& s) { Attention(s).head_dim = 1025; }, "head_dim is 1025"},
    {"window <= 2^24", [](auto& s) { Attention(s).window = 1u << 31; }, "window is 2147483648"},
    {"scale >= 0", [](auto& s) { Attention(s).scale = -1; }, "scale is -1"},
    {"rope.dim > 0", [](auto& s) { Rope(s).dim = 0; }, "rope.dim is 0"},
    {"rope.dim is even", [](auto& s) { Rope(s).dim = 15; }, "rope.dim is 15, expected an even number"},
    {"rope.dim <= head_dim", [](auto& s) { Rope(s).dim = 18; }, "rope.dim is 18, expected 2 to 16"},
    {"rope.original_context <= 2^24", [](auto& s) { Rope(s).original_context = 1u << 30; },
     "original_context is 1073"},
    {"rope.theta >= 1", [](auto& s) { Rope(s).theta = 0; }, "rope.theta is 0"},
    {"rope.theta is a number", [](auto& s) { Rope(s).theta = NAN; }, "rope.theta is nan"},
    {"rope.factor > 0", [](auto& s) { Rope(s).factor = 0; }, "rope.factor is 0"},
    {"rope.low_freq_factor > 0", [](auto& s) { Rope(s).low_freq_factor = 0; }, "rope.low_freq_factor is 0"},
    {"rope.high_freq_factor is finite", [](auto& s) { Rope(s).high_freq_factor = INFINITY; },
     "high_freq_factor is inf"},
    {"rope.beta_fast > 0", [](auto& s) { Rope(s).beta_fast = -1; }, "rope.beta_fast is -1"},
    {"rope.beta_slow > 0", [](auto& s) { Rope(s).beta_slow = 0; }, "rope.beta_slow is 0"},
    {"rope.mscale is finite", [](auto& s) { Rope(s).mscale = INFINITY; }, "rope.mscale is inf"},
    {"rope.mscale_all_dim >= 0", [](auto& s) { Rope(s).mscale_all_dim = -1; }, "rope.mscale_all_dim is -1"},
    {"rope.attention_factor is a number", [](auto& s) { Rope(s).attention_factor = NAN; },
     "attention_factor is nan"},
    {"llama3 scaling has a context", [](auto& s) { Rope(s).original_context = 0; },
     "llama3 or yarn scaling is 0"},
    {"yarn scaling has a context", [](auto& s) { Latent(s).rope.original_context = 0; },
     "layer kind 1: rope.original"},
    {"llama3 frequencies ascend", [](auto& s) { Rope(s).high_freq_factor = 0.5f; },
     "expected more than low_freq_factor"},
    {"kv_lora_rank > 0", [](auto& s) { Latent(s).kv_lora_rank = 0; }, "layer kind 1: kv_lora_rank is 0"},
    {"q_lora_rank <= 65536", [](auto& s) { Latent(s).q_lora_rank = 65537; }, "q_lora_rank is 65537"},
    {"nope_dim > 0", [](auto& s) { Latent(s).nope_dim = 0; }, "nope_dim is 0"},
    {"v_dim > 0", [](auto& s) { Latent(s).v_dim = 0; }, "v_dim is 0"},
    {"latent kv_heads = q_heads", [](auto& s) { Latent(s).kv_heads = 2; }, "kv_heads of latent attention is 2"},
    {"latent head_dim = nope_dim + rope.dim", [](auto& s) { Latent(s).nope_dim = 17; },
     "head_dim is 24, expected nope"},
};

const Rule kMlpRules[] = {
    {"inner > 0", [](auto& s) { s.config.kinds[0].mlp.inner = 0; }, "layer kind 0: inner is 0"},
    {"inner <= 2^20", [](auto& s) { s.config.kinds[0].mlp.inner = 1u << 21; }, "inner is 2097152"},
    {"experts <= 4096", [](auto& s) { Moe(s).experts = 5000; }, "experts is 5000"},
    {"top_k > 0", [](auto& s) { Moe(s).top_k = 0; }, "top_k is 0"},
    {"top_k <= experts", [](auto& s) { Moe(s).top_k = 9; }, "top_k is 9, expected 1 to 8"},
    {"inner of an expert > 0", [](auto& s) { Moe(s).inner = 0; }, "inner of an expert is 0"},
    {"shared_inner <= 2^20", [](auto& s) { Moe(s).shared_inner = 1u << 21; }, "shared_inner is 2097152"},
    {"route_scale is a number", [](auto& s) { Moe(s).route_scale = NAN; }, "route_scale is nan"},
    {"groups <= experts", [](auto& s) { Moe(s).groups = 9; }, "groups is 9"},
    {"groups divide experts", [](auto& s) { Moe(s).groups = 3; }, "groups is 3, expected a divisor of 8"},
    {"top_groups > 0", [](auto& s) { Moe(s).top_groups = 0; }, "top_groups is 0"},
    {"top_groups <= groups", [](auto& s) { Moe(s).top_groups = 5; }, "top_groups is 5, expected 1 to 4"},
    {"chosen groups hold top_k", [](auto& s) { Moe(s).top_k = 5; },
     "within the chosen groups is 5, expected 1 to 4"},
};

}  // namespace

TEST_CASE("the honest file opens", "[hostile]") {
  const Status status = OpenBytes(RawFile(HonestSpec(), 128u << 10));
  INFO(std::string(status.message()));
  CHECK(status.ok());
}

TEST_CASE("configuration rule:", "[hostile]") { CheckRules(kModelRules); }
TEST_CASE("attention rule:", "[hostile]") { CheckRules(kAttentionRules); }
TEST_CASE("feed-forward rule:", "[hostile]") { CheckRules(kMlpRules); }

}  // namespace dsopt::testing
