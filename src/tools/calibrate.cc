#include "tools/calibrate.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>

#include "model/config.h"
#include "text/tokenizer.h"
#include "tools/float_ops.h"

namespace dsopt::tools {
namespace {

using Floats = std::vector<float>;

class FloatModel {
 public:
  FloatModel(const CalibrateOptions& options, const ModelSpec& spec, std::vector<TensorSource>* tensors)
      : spec_(spec.config), window_(options.window), tensors_(*tensors) {}

  Result<Calibration> Run(const std::vector<int32_t>& tokens) {
    ASSIGN_OR_RETURN(ops_, FloatOps::Create());
    tokens_ = tokens.size();
    RETURN_IF_ERROR(Embed(tokens));
    for (uint32_t layer = 0; layer < spec_.layers.size(); ++layer) {
      const LayerKind& kind = spec_.kinds[spec_.layers[layer]];
      prefix_ = "layers." + std::to_string(layer) + ".";
      ASSIGN_OR_RETURN(const Floats h, Norm(x_, "attn.norm", kind.norm_eps));
      RETURN_IF_ERROR(kind.mixer == Mixer::kAttention ? Attention(kind, h) : Latent(kind, h));
      ASSIGN_OR_RETURN(const Floats m, Norm(x_, "mlp.norm", kind.norm_eps));
      RETURN_IF_ERROR(kind.mlp.moe.experts == 0 ? Dense(kind.mlp, m) : Mixture(kind.mlp, m));
    }
    prefix_.clear();
    ASSIGN_OR_RETURN(const Floats h, Norm(x_, "final_norm", spec_.final_norm_eps));
    Note(spec_.tie_embeddings ? "embed" : "head", h, tokens_);
    return std::move(calibration_);
  }

 private:
  TensorSource* Find(const std::string& name) {
    for (TensorSource& tensor : tensors_) {
      if (tensor.spec.name == prefix_ + name) return &tensor;
    }
    return nullptr;
  }
  // A tensor, or one expert of it, as floats.
  Result<Floats> Read(const std::string& name, uint64_t expert = 0, uint64_t experts = 1) {
    TensorSource* tensor = Find(name);
    if (tensor == nullptr)
      return Error(DSOPT_E_CORRUPT, "tensor '%s%s' is missing", prefix_.c_str(), name.c_str());
    uint64_t rows = 0;
    for (const auto& piece : tensor->pieces) rows += piece->rows();
    const uint64_t first = rows / experts * expert, last = first + rows / experts,
                   cols = tensor->spec.shape.back();
    Floats values((last - first) * cols);
    uint64_t at = 0;
    for (const auto& piece : tensor->pieces) {
      const uint64_t from = std::max(at, first), to = std::min(at + piece->rows(), last);
      if (from < to) {
        auto* dst = reinterpret_cast<uint8_t*>(&values[(from - first) * cols]);
        RETURN_IF_ERROR(piece->ReadValues(from - at, to - from, DSOPT_F32, dst));
      }
      at += piece->rows();
    }
    return values;
  }

  void Note(const std::string& name, const Floats& input, uint64_t rows) {
    if (rows == 0) return;
    const uint64_t cols = input.size() / rows;
    ChannelStats& stats = calibration_[prefix_ + name];
    double& seen = seen_[prefix_ + name];
    stats.mean_magnitude.resize(cols);
    stats.mean_square.resize(cols);
    const double total = seen + static_cast<double>(rows);
    for (uint64_t c = 0; c < cols; ++c) {
      double magnitude = 0, square = 0;
      for (uint64_t r = 0; r < rows; ++r) {
        const double value = static_cast<double>(input[r * cols + c]);
        magnitude += std::fabs(value);
        square += value * value;
      }
      stats.mean_magnitude[c] =
          static_cast<float>((static_cast<double>(stats.mean_magnitude[c]) * seen + magnitude) / total);
      stats.mean_square[c] =
          static_cast<float>((static_cast<double>(stats.mean_square[c]) * seen + square) / total);
    }
    seen = total;
  }

  Status Embed(const std::vector<int32_t>& tokens) {
    TensorSource* table = Find("embed");
    x_.resize(tokens_ * spec_.hidden);
    for (uint64_t t = 0; t < tokens_; ++t) {
      auto* dst = reinterpret_cast<uint8_t*>(&x_[t * spec_.hidden]);
      RETURN_IF_ERROR(table->pieces[0]->ReadValues(static_cast<uint64_t>(tokens[t]), 1, DSOPT_F32, dst));
    }
    for (float& value : x_) value *= spec_.embedding_scale;
    return {};
  }

  // Rows of the gain's width.
  Result<Floats> Norm(const Floats& x, const char* name, float eps) {
    ASSIGN_OR_RETURN(const Floats gain, Read(name));
    Floats out(x.size());
    for (size_t row = 0; row < x.size(); row += gain.size()) {
      double squares = 0;
      for (size_t i = 0; i < gain.size(); ++i)
        squares += static_cast<double>(x[row + i]) * static_cast<double>(x[row + i]);
      const double inverse =
          1.0 / std::sqrt(squares / static_cast<double>(gain.size()) + static_cast<double>(eps));
      for (size_t i = 0; i < gain.size(); ++i) {
        out[row + i] = static_cast<float>(static_cast<double>(x[row + i]) * inverse) * gain[i];
      }
    }
    return out;
  }

  // in W^T + bias, and a note of in.
  Result<Floats> Linear(const std::string& name, const Floats& in, bool bias) {
    const uint64_t cols = in.size() / tokens_;
    Note(name, in, tokens_);
    ASSIGN_OR_RETURN(const Floats weight, Read(name));
    ASSIGN_OR_RETURN(Floats out, ops_->Linear(in, weight, tokens_, cols));
    if (bias) {
      ASSIGN_OR_RETURN(const Floats list, Read(name + ".bias"));
      for (size_t i = 0; i < out.size(); ++i) out[i] += list[i % list.size()];
    }
    return out;
  }

  void AddTo(const Floats& values) {
    for (size_t i = 0; i < x_.size(); ++i) x_[i] += values[i];
  }

  // Rotates `dim` values from `first` on in every head; positions start anew in each window.
  void Rotate(const RopeSpec& spec, uint64_t heads, uint64_t head_dim, uint64_t first, Floats* values) {
    const RopeTable table = MakeRopeTable(spec);
    const uint64_t half = spec.dim / 2, step = spec.interleaved ? 2 : 1, apart = spec.interleaved ? 1 : half;
    for (uint64_t t = 0; t < tokens_; ++t) {
      for (uint64_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(static_cast<float>(t % window_) * table.inv_freq[i]);
        const auto c = static_cast<float>(std::cos(angle)) * table.scale,
                   s = static_cast<float>(std::sin(angle)) * table.scale;
        for (uint64_t h = 0; h < heads; ++h) {
          float* head = values->data() + (t * heads + h) * head_dim + first;
          float &a = head[i * step], &b = head[i * step + apart];
          const float turned = a * c - b * s;
          b = b * c + a * s;
          a = turned;
        }
      }
    }
  }

  Status Attention(const LayerKind& kind, const Floats& h) {
    const AttentionSpec& a = kind.attention;
    ASSIGN_OR_RETURN(Floats q, Linear("attn.q", h, a.qkv_bias));
    ASSIGN_OR_RETURN(Floats k, Linear("attn.k", h, a.qkv_bias));
    ASSIGN_OR_RETURN(const Floats v, Linear("attn.v", h, a.qkv_bias));
    Rotate(a.rope, a.q_heads, a.head_dim, 0, &q);
    Rotate(a.rope, a.kv_heads, a.head_dim, 0, &k);
    ASSIGN_OR_RETURN(const Floats mixed, ops_->Attention({q, k, v, tokens_, window_, a.q_heads, a.kv_heads,
                                                          a.head_dim, a.window, ScoreScale(kind)}));
    ASSIGN_OR_RETURN(const Floats out, Linear("attn.o", mixed, a.out_bias));
    AddTo(out);
    return {};
  }

  // Keys and values per head, as in the paper; values are padded to the width of keys for the operator.
  Status Latent(const LayerKind& kind, const Floats& h) {
    const AttentionSpec& a = kind.attention;
    const uint64_t heads = a.q_heads, wide = uint64_t{a.nope_dim} + a.rope.dim, latent = a.kv_lora_rank;
    Floats q;
    if (a.q_lora_rank != 0) {
      ASSIGN_OR_RETURN(const Floats low, Linear("attn.q_a", h, a.qkv_bias));
      ASSIGN_OR_RETURN(const Floats normed, Norm(low, "attn.q_a_norm", kind.latent_norm_eps));
      ASSIGN_OR_RETURN(q, Linear("attn.q_b", normed, false));
    } else {
      ASSIGN_OR_RETURN(q, Linear("attn.q", h, a.qkv_bias));
    }
    ASSIGN_OR_RETURN(const Floats kv, Linear("attn.kv_a", h, a.qkv_bias));
    Floats compressed(tokens_ * latent), rope_key(tokens_ * a.rope.dim);
    for (uint64_t t = 0; t < tokens_; ++t) {
      const float* row = &kv[t * (latent + a.rope.dim)];
      std::copy_n(row, latent, &compressed[t * latent]);
      std::copy_n(row + latent, a.rope.dim, &rope_key[t * a.rope.dim]);
    }
    ASSIGN_OR_RETURN(const Floats c, Norm(compressed, "attn.kv_a_norm", kind.latent_norm_eps));
    ASSIGN_OR_RETURN(const Floats up, Read("attn.kv_b"));
    ASSIGN_OR_RETURN(const Floats both, ops_->Linear(c, up, tokens_, latent));
    Rotate(a.rope, heads, wide, a.nope_dim, &q);
    Rotate(a.rope, 1, a.rope.dim, 0, &rope_key);
    Floats k(tokens_ * heads * wide), v(tokens_ * heads * wide);
    for (uint64_t t = 0; t < tokens_; ++t) {
      for (uint64_t head = 0; head < heads; ++head) {
        const float* row = &both[(t * heads + head) * (a.nope_dim + a.v_dim)];
        float* key = &k[(t * heads + head) * wide];
        std::copy_n(row, a.nope_dim, key);
        std::copy_n(&rope_key[t * a.rope.dim], a.rope.dim, key + a.nope_dim);
        std::copy_n(row + a.nope_dim, std::min<uint64_t>(a.v_dim, wide), &v[(t * heads + head) * wide]);
      }
    }
    if (a.v_dim > wide) {
      return Error(DSOPT_E_UNSUPPORTED, "values of %u per head are wider than keys of %llu", a.v_dim,
                   static_cast<unsigned long long>(wide));
    }
    ASSIGN_OR_RETURN(const Floats padded,
                     ops_->Attention({q, k, v, tokens_, window_, heads, heads, wide, 0, ScoreScale(kind)}));
    Floats mixed(tokens_ * heads * a.v_dim);
    for (uint64_t i = 0; i < tokens_ * heads; ++i) std::copy_n(&padded[i * wide], a.v_dim, &mixed[i * a.v_dim]);
    ASSIGN_OR_RETURN(const Floats out, Linear("attn.o", mixed, a.out_bias));
    AddTo(out);
    return {};
  }

  static void Gate(Activation activation, const Floats& up, Floats* gate) {
    for (size_t i = 0; i < gate->size(); ++i) {
      const float g = (*gate)[i];
      const float u = 1.5957691216f * g * (1.0f + 0.044715f * g * g);  // gelu (tanh) = g sigmoid(u)
      (*gate)[i] = g / (1.0f + std::exp(activation == Activation::kSilu ? -g : -u)) * up[i];
    }
  }

  Status Dense(const MlpSpec& spec, const Floats& h) { return Gated(spec.activation, "mlp.", spec.bias, h); }

  Status Gated(Activation activation, const std::string& at, bool bias, const Floats& h) {
    ASSIGN_OR_RETURN(Floats gate, Linear(at + "gate", h, bias));
    ASSIGN_OR_RETURN(const Floats up, Linear(at + "up", h, bias));
    Gate(activation, up, &gate);
    ASSIGN_OR_RETURN(const Floats out, Linear(at + "down", gate, bias));
    AddTo(out);
    return {};
  }

  Status Mixture(const MlpSpec& mlp, const Floats& h) {
    const MoeSpec& moe = mlp.moe;
    const uint64_t hidden = spec_.hidden;
    ASSIGN_OR_RETURN(const Floats logits, Linear("moe.router", h, false));
    const std::vector<Floats> weights = Route(moe, logits);
    for (uint64_t e = 0; e < moe.experts; ++e) {
      std::vector<uint64_t> chosen;
      for (uint64_t t = 0; t < tokens_; ++t) {
        if (weights[t][e] != 0.0f) chosen.push_back(t);
      }
      if (chosen.empty()) continue;
      Floats in(chosen.size() * hidden);
      for (size_t i = 0; i < chosen.size(); ++i) std::copy_n(&h[chosen[i] * hidden], hidden, &in[i * hidden]);
      Note("moe.gate", in, chosen.size());
      Note("moe.up", in, chosen.size());
      ASSIGN_OR_RETURN(const Floats gate_weight, Read("moe.gate", e, moe.experts));
      ASSIGN_OR_RETURN(Floats gate, ops_->Linear(in, gate_weight, chosen.size(), hidden));
      ASSIGN_OR_RETURN(const Floats up_weight, Read("moe.up", e, moe.experts));
      ASSIGN_OR_RETURN(const Floats up, ops_->Linear(in, up_weight, chosen.size(), hidden));
      Gate(mlp.activation, up, &gate);
      Note("moe.down", gate, chosen.size());
      ASSIGN_OR_RETURN(const Floats down_weight, Read("moe.down", e, moe.experts));
      ASSIGN_OR_RETURN(const Floats out, ops_->Linear(gate, down_weight, chosen.size(), moe.inner));
      for (size_t i = 0; i < chosen.size(); ++i) {
        for (uint64_t c = 0; c < hidden; ++c)
          x_[chosen[i] * hidden + c] += weights[chosen[i]][e] * out[i * hidden + c];
      }
    }
    return moe.shared_inner != 0 ? Gated(mlp.activation, "moe.shared.", false, h) : Status();
  }

  // Of each token, by expert: see dsopt_moe_block.
  std::vector<Floats> Route(const MoeSpec& moe, const Floats& logits) const {
    std::vector<Floats> all(tokens_, Floats(moe.experts, 0.0f));
    for (uint64_t t = 0; t < tokens_; ++t) {
      Floats p(logits.begin() + static_cast<ptrdiff_t>(t * moe.experts),
               logits.begin() + static_cast<ptrdiff_t>((t + 1) * moe.experts));
      const float most = *std::max_element(p.begin(), p.end());
      double sum = 0;
      for (float& value : p) sum += static_cast<double>(value = std::exp(value - most));
      for (float& value : p) value = static_cast<float>(static_cast<double>(value) / sum);
      KeepGroups(moe, &p);
      float total = 0;
      for (uint32_t n = 0; n < moe.top_k; ++n) {
        const auto best = std::max_element(p.begin(), p.end());
        all[t][static_cast<size_t>(best - p.begin())] = *best;
        total += *best;
        *best = -1.0f;
      }
      for (float& weight : all[t]) weight *= moe.route_scale / (moe.renormalise && total > 0 ? total : 1.0f);
    }
    return all;
  }

  static void KeepGroups(const MoeSpec& moe, Floats* p) {
    if (moe.groups <= 1) return;
    const size_t size = moe.experts / moe.groups;
    std::vector<std::pair<float, size_t>> groups;
    for (size_t g = 0; g < moe.groups; ++g) {
      const auto first = p->begin() + static_cast<ptrdiff_t>(g * size);
      groups.emplace_back(-*std::max_element(first, first + static_cast<ptrdiff_t>(size)), g);
    }
    std::sort(groups.begin(), groups.end());
    for (size_t i = moe.top_groups; i < groups.size(); ++i) {
      const auto first = p->begin() + static_cast<ptrdiff_t>(groups[i].second * size);
      std::fill(first, first + static_cast<ptrdiff_t>(size), -1.0f);
    }
  }

  const ConfigSpec& spec_;
  const uint64_t window_;
  std::vector<TensorSource>& tensors_;
  std::unique_ptr<FloatOps> ops_;
  uint64_t tokens_ = 0;
  std::string prefix_;
  Floats x_;
  Calibration calibration_;
  std::map<std::string, double> seen_;  // rows in calibration_
};

}  // namespace

Result<Calibration> Calibrate(const CalibrateOptions& options, const ModelSpec& spec,
                              std::vector<TensorSource>* tensors) {
  if (spec.tokenizer.kind == TokenizerKind::kNone) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "calibration: the model has no tokenizer");
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<const Tokenizer> tokenizer, Tokenizer::Create(spec.tokenizer));
  std::vector<int32_t> ids, tokens;
  RETURN_IF_ERROR(tokenizer->Encode(options.text, 0, &ids));
  const size_t own = options.window - (spec.tokenizer.bos >= 0 ? 1 : 0),
               windows = std::min<size_t>(options.windows, ids.size() / own);
  if (windows == 0) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "calibration: the text has %zu tokens, at least %zu expected",
                 ids.size(), own);
  }
  for (size_t w = 0; w < windows; ++w) {  // spread over the text
    const size_t first = windows == 1 ? 0 : (ids.size() - own) * w / (windows - 1);
    if (spec.tokenizer.bos >= 0) tokens.push_back(spec.tokenizer.bos);
    tokens.insert(tokens.end(), ids.begin() + static_cast<ptrdiff_t>(first),
                  ids.begin() + static_cast<ptrdiff_t>(first + own));
  }
  return FloatModel(options, spec, tensors).Run(tokens);
}

}  // namespace dsopt::tools
