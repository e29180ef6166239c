// check_desc.cc - refuses a program whose blocks do not fit their weights, each other or the cache.
#include <cmath>
#include <cstdarg>
#include <cstdio>

#include "cache_layout.h"
#include "check.h"

namespace dsopt_shared {
namespace {

constexpr uint32_t kMaxSide = 1u << 24;
constexpr uint32_t kMaxHeads = 1u << 14;
constexpr uint32_t kMaxRopeDim = 1u << 14;
constexpr uint32_t kMaxTopK = 256;

class DescCheck {
 public:
  DescCheck(const dsopt_host_api& host, const dsopt_be_device* device, FactsOf facts, const DescLimits& limits,
            const dsopt_program_desc& desc)
      : host_(host), device_(device), facts_(facts), limits_(limits), d_(desc) {}

  dsopt_status All() {
    dsopt_status status = Numbers();
    if (status == DSOPT_OK) status = Ropes();
    for (uint32_t i = 0; status == DSOPT_OK && i < d_.block_count; ++i) {
      block_ = i;
      status = Block(d_.blocks[i]);
    }
    return status;
  }

 private:
  [[gnu::format(printf, 3, 4)]] dsopt_status Wrong(dsopt_status code, const char* format, ...) const {
    char text[256];
    va_list args;
    va_start(args, format);
    std::vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return Refuse(host_, code, "program: %s", text);
  }
  [[gnu::format(printf, 2, 3)]] dsopt_status WrongBlock(const char* format, ...) const {
    char text[256];
    va_list args;
    va_start(args, format);
    std::vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return Refuse(host_, DSOPT_E_INVALID_ARGUMENT, "program: block %u (layer %u): %s", block_,
                  d_.blocks[block_].layer, text);
  }

  dsopt_status Numbers() const {
    const auto bad = DSOPT_E_INVALID_ARGUMENT;
    if (d_.precision != DSOPT_PRECISION_FAST && d_.precision != DSOPT_PRECISION_REFERENCE) {
      return Wrong(bad, "precision %u, 0 or 1 expected", d_.precision);
    }
    if (d_.blocks == nullptr || d_.block_count < 2 || d_.block_count > 65536) {
      return Wrong(bad, "%u blocks, 2 to 65536 expected", d_.block_count);
    }
    if (d_.blocks[0].kind != DSOPT_BLOCK_EMBED || d_.blocks[d_.block_count - 1].kind != DSOPT_BLOCK_HEAD) {
      return Wrong(bad, "the first block must be EMBED and the last HEAD");
    }
    const struct {
      const char* name;
      uint32_t value, low, high;
    } sides[] = {{"hidden", d_.hidden, 1, kMaxSide},
                 {"vocab", d_.vocab, 1, limits_.vocab},
                 {"max_rows", d_.max_rows, 1, 1u << 16},
                 {"max_seqs", d_.max_seqs, 1, 1u << 16},
                 {"max_logit_rows", d_.max_logit_rows, 0, 1u << 16},
                 {"max_pages_per_seq", d_.max_pages_per_seq, 1, 1u << 24},
                 {"page_count", d_.page_count, 1, 1u << 30},
                 {"host_pages", d_.host_pages, 0, d_.page_count},
                 {"max_adjust", d_.max_adjust, 0, 1u << 28},
                 {"max_history", d_.max_history, 0, 1u << 28},
                 {"rope_count", d_.rope_count, 0, 1024},
                 {"flags", d_.flags, 0, DSOPT_PROGRAM_NO_REPLAY | DSOPT_PROGRAM_FUSE_LAYERS}};
    for (const auto& side : sides) {
      if (side.value < side.low || side.value > side.high) {
        return Wrong(bad, "%s is %u, %u to %u expected", side.name, side.value, side.low, side.high);
      }
    }
    if (d_.page_tokens != kPageTokens) {
      return Wrong(DSOPT_E_UNSUPPORTED, "page_tokens is %u, %u expected", d_.page_tokens, kPageTokens);
    }
    if (d_.page_bytes == 0 || d_.page_bytes % 256 != 0 || d_.page_bytes > (uint64_t{1} << 40)) {
      return Wrong(bad, "page_bytes is %llu, a multiple of 256 expected",
                   static_cast<unsigned long long>(d_.page_bytes));
    }
    if (!IsCacheType(d_.kv_dtype)) {
      return Wrong(DSOPT_E_UNSUPPORTED, "kv_dtype %d, F32, BF16, F8_E4M3, I8 or I4 expected",
                   static_cast<int>(d_.kv_dtype));
    }
    if (d_.rope_count != 0 && d_.ropes == nullptr)
      return Wrong(bad, "ropes is NULL, rope_count is %u", d_.rope_count);
    return DSOPT_OK;
  }

  dsopt_status Ropes() const {
    for (uint32_t i = 0; i < d_.rope_count; ++i) {
      const dsopt_rope& r = d_.ropes[i];
      if (r.dim == 0 || r.dim % 2 != 0 || r.dim > kMaxRopeDim || r.inv_freq == nullptr ||
          !std::isfinite(r.scale)) {
        return Wrong(DSOPT_E_INVALID_ARGUMENT,
                     "rope %u: dim %u (even, at most %u expected), scale %g, inv_freq %s", i, r.dim,
                     kMaxRopeDim, static_cast<double>(r.scale), r.inv_freq == nullptr ? "NULL" : "given");
      }
    }
    return DSOPT_OK;
  }

  // A weight that must be there, of one kind and shape.
  dsopt_status Need(const dsopt_be_weight* weight, const char* what, dsopt_weight_kind kind, uint64_t batch,
                    uint64_t rows, uint64_t cols) const {
    if (weight == nullptr) return WrongBlock("%s is NULL", what);
    const WeightFacts w = facts_(weight);
    if (w.device != device_) return WrongBlock("%s ('%.60s') belongs to another device", what, w.name);
    if (w.kind != kind || w.batch != batch || w.rows != rows || w.cols != cols) {
      return WrongBlock("%s ('%.60s') is kind %d [%llu, %llu, %llu], kind %d [%llu, %llu, %llu] expected", what,
                        w.name, static_cast<int>(w.kind), Long(w.batch), Long(w.rows), Long(w.cols),
                        static_cast<int>(kind), Long(batch), Long(rows), Long(cols));
    }
    return DSOPT_OK;
  }
  dsopt_status NeedVector(const dsopt_be_weight* w, const char* what, uint64_t count,
                          bool optional = false) const {
    if (w == nullptr && optional) return DSOPT_OK;
    return Need(w, what, DSOPT_WEIGHT_VECTOR, 1, 1, count);
  }
  static unsigned long long Long(uint64_t value) { return value; }

  // vector_bytes: of one position.
  dsopt_status CacheFits(uint64_t offset, uint64_t vector_bytes) const {
    const uint64_t bytes = vector_bytes * kPageTokens;
    if (offset % 16 != 0 || offset > d_.page_bytes || bytes > d_.page_bytes - offset) {
      return WrongBlock("cache [%llu, +%llu) does not fit a page of %llu bytes, at multiples of 16",
                        Long(offset), Long(bytes), Long(d_.page_bytes));
    }
    return DSOPT_OK;
  }

  dsopt_status Block(const dsopt_block& b) const {
    const bool first = block_ == 0, last = block_ + 1 == d_.block_count;
    if (!first && b.kind == DSOPT_BLOCK_EMBED) return WrongBlock("EMBED must be the first block");
    if (!last && b.kind == DSOPT_BLOCK_HEAD) return WrongBlock("HEAD must be the last block");
    switch (b.kind) {
      case DSOPT_BLOCK_EMBED:
        return Embed(b.u.embed);
      case DSOPT_BLOCK_ATTENTION:
        return Attention(b.u.attention);
      case DSOPT_BLOCK_MLA:
        return Mla(b.u.mla);
      case DSOPT_BLOCK_MLP:
        return Mlp(b.u.mlp);
      case DSOPT_BLOCK_MOE:
        return Moe(b.u.moe);
      case DSOPT_BLOCK_HEAD:
        return Head(b.u.head);
      default:
        return WrongBlock("kind %d is unknown", static_cast<int>(b.kind));
    }
  }

#define DSOPT_CHECK(call)                              \
  do {                                                 \
    const dsopt_status check_status = (call);          \
    if (check_status != DSOPT_OK) return check_status; \
  } while (false)

  dsopt_status Embed(const dsopt_embed_block& b) const {
    DSOPT_CHECK(Need(b.table, "table", DSOPT_WEIGHT_EMBEDDING, 1, d_.vocab, d_.hidden));
    return Finite(b.scale, "scale");
  }

  dsopt_status Finite(float value, const char* what) const {
    return std::isfinite(value) ? DSOPT_OK : WrongBlock("%s is %g", what, static_cast<double>(value));
  }

  dsopt_status Attention(const dsopt_attention_block& b) const {
    if (b.q_heads == 0 || b.kv_heads == 0 || b.q_heads > kMaxHeads || b.kv_heads > kMaxHeads ||
        b.q_heads % b.kv_heads != 0) {
      return WrongBlock("%u query heads, %u cache heads: a multiple, at most %u, expected", b.q_heads,
                        b.kv_heads, kMaxHeads);
    }
    if (b.head_dim == 0 || b.head_dim % 2 != 0 || b.head_dim > limits_.head_dim) {
      return WrongBlock("head_dim %u, an even number up to %u expected", b.head_dim, limits_.head_dim);
    }
    if ((d_.rope_count != 0 || limits_.rope_needed) && b.rope >= d_.rope_count)
      return WrongBlock("rope %u of %u", b.rope, d_.rope_count);
    if (d_.rope_count != 0 && d_.ropes[b.rope].dim > b.head_dim) {
      return WrongBlock("rope of %u dimensions in heads of %u", d_.ropes[b.rope].dim, b.head_dim);
    }
    const uint64_t wide = (b.q_heads + 2 * uint64_t{b.kv_heads}) * b.head_dim;
    DSOPT_CHECK(NeedVector(b.norm, "norm", d_.hidden));
    DSOPT_CHECK(Need(b.qkv, "qkv", DSOPT_WEIGHT_MATRIX, 1, wide, d_.hidden));
    DSOPT_CHECK(NeedVector(b.qkv_bias, "qkv_bias", wide, true));
    DSOPT_CHECK(Need(b.out, "out", DSOPT_WEIGHT_MATRIX, 1, d_.hidden, uint64_t{b.q_heads} * b.head_dim));
    DSOPT_CHECK(NeedVector(b.out_bias, "out_bias", d_.hidden, true));
    DSOPT_CHECK(Finite(b.scale, "scale"));
    DSOPT_CHECK(Finite(b.norm_eps, "norm_eps"));
    return CacheFits(b.cache_offset, 2 * uint64_t{b.kv_heads} * CacheVectorBytes(d_.kv_dtype, b.head_dim));
  }

  dsopt_status Mla(const dsopt_mla_block& b) const {
    const uint32_t sides[] = {b.latent, b.nope, b.rope_dim, b.v_dim};
    for (uint32_t side : sides) {
      if (side == 0 || side % 2 != 0 || side > kMaxRopeDim) {
        return WrongBlock("latent %u, nope %u, rope %u, v %u: even numbers up to %u expected", b.latent, b.nope,
                          b.rope_dim, b.v_dim, kMaxRopeDim);
      }
    }
    if (b.latent + b.rope_dim > limits_.latent)
      return WrongBlock("latent %u and rope %u: at most %u together expected", b.latent, b.rope_dim,
                        limits_.latent);
    if (b.heads == 0 || b.heads > kMaxHeads || b.q_rank > kMaxSide) {
      return WrongBlock("%u heads, q_rank %u", b.heads, b.q_rank);
    }
    if (b.rope >= d_.rope_count || d_.ropes[b.rope].dim > b.rope_dim) {
      return WrongBlock("rope %u of %u, or it has more than %u dimensions", b.rope, d_.rope_count, b.rope_dim);
    }
    const uint64_t q = uint64_t{b.heads} * (b.nope + b.rope_dim), keys = uint64_t{b.latent} + b.rope_dim;
    const uint64_t down = (b.q_rank != 0 ? b.q_rank : q) + keys;
    DSOPT_CHECK(NeedVector(b.norm, "norm", d_.hidden));
    DSOPT_CHECK(Need(b.down, "down", DSOPT_WEIGHT_MATRIX, 1, down, d_.hidden));
    DSOPT_CHECK(NeedVector(b.down_bias, "down_bias", down, true));
    if (b.q_rank != 0) {
      DSOPT_CHECK(NeedVector(b.q_norm, "q_norm", b.q_rank));
      DSOPT_CHECK(Need(b.q_up, "q_up", DSOPT_WEIGHT_MATRIX, 1, q, b.q_rank));
    }
    DSOPT_CHECK(NeedVector(b.latent_norm, "latent_norm", b.latent));
    DSOPT_CHECK(Need(b.k_up, "k_up", DSOPT_WEIGHT_TRANSPOSED, b.heads, b.nope, b.latent));
    DSOPT_CHECK(Need(b.v_up, "v_up", DSOPT_WEIGHT_MATRIX, b.heads, b.v_dim, b.latent));
    DSOPT_CHECK(Need(b.out, "out", DSOPT_WEIGHT_MATRIX, 1, d_.hidden, uint64_t{b.heads} * b.v_dim));
    DSOPT_CHECK(NeedVector(b.out_bias, "out_bias", d_.hidden, true));
    if (!std::isfinite(b.scale) || b.scale == 0.0f)
      return WrongBlock("scale is %g", static_cast<double>(b.scale));
    DSOPT_CHECK(Finite(b.norm_eps, "norm_eps"));
    DSOPT_CHECK(Finite(b.latent_eps, "latent_eps"));
    return CacheFits(b.cache_offset,
                     CacheVectorBytes(d_.kv_dtype, b.latent) + CacheVectorBytes(d_.kv_dtype, b.rope_dim));
  }

  dsopt_status Activation(dsopt_activation a) const {
    if (a == DSOPT_ACT_SILU || a == DSOPT_ACT_GELU_TANH) return DSOPT_OK;
    return WrongBlock("activation %d is unknown", static_cast<int>(a));
  }

  dsopt_status Mlp(const dsopt_mlp_block& b) const {
    if (b.inner == 0 || b.inner > kMaxSide) return WrongBlock("inner %u", b.inner);
    DSOPT_CHECK(NeedVector(b.norm, "norm", d_.hidden));
    DSOPT_CHECK(Need(b.gate_up, "gate_up", DSOPT_WEIGHT_GATE_UP, 1, 2 * uint64_t{b.inner}, d_.hidden));
    DSOPT_CHECK(NeedVector(b.gate_up_bias, "gate_up_bias", 2 * uint64_t{b.inner}, true));
    DSOPT_CHECK(Need(b.down, "down", DSOPT_WEIGHT_MATRIX, 1, d_.hidden, b.inner));
    DSOPT_CHECK(NeedVector(b.down_bias, "down_bias", d_.hidden, true));
    DSOPT_CHECK(Finite(b.norm_eps, "norm_eps"));
    return Activation(b.activation);
  }

  dsopt_status Moe(const dsopt_moe_block& b) const {
    if (b.experts == 0 || b.experts > limits_.experts || b.top_k == 0 || b.top_k > b.experts ||
        b.top_k > kMaxTopK) {
      return WrongBlock("%u experts, top_k %u; at most %u, %u expected", b.experts, b.top_k, limits_.experts,
                        kMaxTopK);
    }
    if (b.groups > 1) {
      const uint64_t allowed = uint64_t{b.experts / b.groups} * b.top_groups;
      if (b.groups > 256 || b.experts % b.groups != 0 || b.top_groups == 0 || b.top_groups > b.groups ||
          allowed < b.top_k) {
        return WrongBlock("%u experts in %u groups (at most 256, evenly), %u of them, top_k %u", b.experts,
                          b.groups, b.top_groups, b.top_k);
      }
    }
    if (b.inner == 0 || b.inner > kMaxSide || b.shared_inner > kMaxSide) {
      return WrongBlock("inner %u, shared_inner %u", b.inner, b.shared_inner);
    }
    DSOPT_CHECK(NeedVector(b.norm, "norm", d_.hidden));
    DSOPT_CHECK(Need(b.router, "router", DSOPT_WEIGHT_ROUTER, 1, b.experts, d_.hidden));
    DSOPT_CHECK(Need(b.gate_up, "gate_up", DSOPT_WEIGHT_GATE_UP, b.experts, 2 * uint64_t{b.inner}, d_.hidden));
    DSOPT_CHECK(Need(b.down, "down", DSOPT_WEIGHT_EXPERTS, b.experts, d_.hidden, b.inner));
    if ((b.shared_gate_up == nullptr) != (b.shared_down == nullptr) ||
        (b.shared_gate_up == nullptr) != (b.shared_inner == 0)) {
      return WrongBlock("shared_gate_up, shared_down and shared_inner (%u): all or none expected",
                        b.shared_inner);
    }
    if (b.shared_gate_up != nullptr) {
      DSOPT_CHECK(Need(b.shared_gate_up, "shared_gate_up", DSOPT_WEIGHT_GATE_UP, 1,
                       2 * uint64_t{b.shared_inner}, d_.hidden));
      DSOPT_CHECK(Need(b.shared_down, "shared_down", DSOPT_WEIGHT_MATRIX, 1, d_.hidden, b.shared_inner));
    }
    DSOPT_CHECK(Finite(b.route_scale, "route_scale"));
    DSOPT_CHECK(Finite(b.norm_eps, "norm_eps"));
    return Activation(b.activation);
  }

  dsopt_status Head(const dsopt_head_block& b) const {
    DSOPT_CHECK(NeedVector(b.norm, "norm", d_.hidden));
    if (b.weight != nullptr && facts_(b.weight).kind == DSOPT_WEIGHT_EMBEDDING) {
      DSOPT_CHECK(Need(b.weight, "weight", DSOPT_WEIGHT_EMBEDDING, 1, d_.vocab, d_.hidden));
      if (!facts_(b.weight).tied)
        return WrongBlock("weight ('%.60s') is an EMBEDDING that was not created as tied",
                          facts_(b.weight).name);
    } else {
      DSOPT_CHECK(Need(b.weight, "weight", DSOPT_WEIGHT_MATRIX, 1, d_.vocab, d_.hidden));
    }
    return Finite(b.norm_eps, "norm_eps");
  }
#undef DSOPT_CHECK

  const dsopt_host_api& host_;
  const dsopt_be_device* device_;
  const FactsOf facts_;
  const DescLimits& limits_;
  const dsopt_program_desc& d_;
  uint32_t block_ = 0;
};

}  // namespace

dsopt_status CheckProgram(const dsopt_host_api& host, const dsopt_be_device* device, FactsOf facts,
                          const DescLimits& limits, const dsopt_program_desc& desc) {
  return DescCheck(host, device, facts, limits, desc).All();
}

}  // namespace dsopt_shared
