#include "tools/float_model.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "model/config.h"
#include "text/tokenizer.h"

namespace dsopt::tools {
namespace {

using Floats = std::vector<float>;

void Gate(Activation activation, const Floats& up, Floats* gate) {
  for (size_t i = 0; i < gate->size(); ++i) {
    const float g = (*gate)[i];
    const float u = 1.5957691216f * g * (1.0f + 0.044715f * g * g);  // gelu (tanh) = g sigmoid(u)
    (*gate)[i] = g / (1.0f + std::exp(activation == Activation::kSilu ? -g : -u)) * up[i];
  }
}

void KeepGroups(const MoeSpec& moe, Floats* p) {
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

}  // namespace

Result<std::unique_ptr<FloatModel>> FloatModel::Create(const ConfigSpec& spec,
                                                       std::vector<TensorSource>* tensors, uint64_t window) {
  std::unique_ptr<FloatModel> model(new FloatModel(spec, tensors, window));
  ASSIGN_OR_RETURN(model->ops_, FloatOps::Create());
  return model;
}

Status FloatModel::Embed(const std::vector<int32_t>& tokens) {
  prefix_.clear();
  tokens_ = tokens.size();
  TensorSource* table = Find("embed");
  if (table == nullptr) return Error(DSOPT_E_CORRUPT, "tensor 'embed' is missing");
  x_.resize(tokens_ * spec_.hidden);
  for (uint64_t t = 0; t < tokens_; ++t) {
    auto* dst = reinterpret_cast<uint8_t*>(&x_[t * spec_.hidden]);
    RETURN_IF_ERROR(table->pieces[0]->ReadValues(static_cast<uint64_t>(tokens[t]), 1, DSOPT_F32, dst));
  }
  for (float& value : x_) value *= spec_.embedding_scale;
  return {};
}

Status FloatModel::RunLayer(uint32_t layer, InputListener* listener) {
  listener_ = listener;
  const LayerKind& kind = spec_.kinds[spec_.layers[layer]];
  prefix_ = "layers." + std::to_string(layer) + ".";
  ASSIGN_OR_RETURN(const Floats h, Norm(x_, "attn.norm", kind.norm_eps));
  RETURN_IF_ERROR(kind.mixer == Mixer::kAttention ? Attention(kind, h) : Latent(kind, h));
  ASSIGN_OR_RETURN(const Floats m, Norm(x_, "mlp.norm", kind.norm_eps));
  const MlpSpec& mlp = kind.mlp;
  return mlp.moe.experts == 0 ? Gated(mlp.activation, "mlp.", mlp.bias, m) : Mixture(mlp, m);
}

Status FloatModel::Finish(InputListener* listener) {
  listener_ = listener;
  prefix_.clear();
  ASSIGN_OR_RETURN(const Floats h, Norm(x_, "final_norm", spec_.final_norm_eps));
  return Show({spec_.tie_embeddings ? "embed" : "head"}, h, tokens_);
}

TensorSource* FloatModel::Find(const std::string& name) {
  for (TensorSource& tensor : tensors_) {
    if (tensor.spec.name == name) return &tensor;
  }
  return nullptr;
}

Result<std::vector<float>> FloatModel::Read(const std::string& name, uint64_t expert, uint64_t experts) {
  TensorSource* tensor = Find(name);
  if (tensor == nullptr) return Error(DSOPT_E_CORRUPT, "tensor '%s' is missing", name.c_str());
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

Status FloatModel::Show(std::vector<std::string> names, const Floats& inputs, uint64_t rows, uint64_t expert) {
  for (std::string& name : names) name = prefix_ + name;
  return rows == 0 ? Status() : listener_->OnInputs(names, expert, inputs, rows);
}

// Rows of the gain's width.
Result<std::vector<float>> FloatModel::Norm(const Floats& x, const char* name, float eps) {
  ASSIGN_OR_RETURN(const Floats gain, Read(prefix_ + name));
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

// in W^T + bias.
Result<std::vector<float>> FloatModel::Product(const std::string& name, const Floats& in, bool bias) {
  const uint64_t cols = in.size() / tokens_;
  ASSIGN_OR_RETURN(Floats weight, Read(prefix_ + name));
  listener_->OnMatrix(prefix_ + name, 0, &weight);
  ASSIGN_OR_RETURN(Floats out, ops_->Linear(in, weight, tokens_, cols));
  if (bias) {
    ASSIGN_OR_RETURN(const Floats list, Read(prefix_ + name + ".bias"));
    for (size_t i = 0; i < out.size(); ++i) out[i] += list[i % list.size()];
  }
  return out;
}

Result<std::vector<float>> FloatModel::ExpertProduct(const std::string& name, const MoeSpec& moe,
                                                     uint64_t expert, const Floats& in, uint64_t rows) {
  ASSIGN_OR_RETURN(Floats weight, Read(prefix_ + name, expert, moe.experts));
  listener_->OnMatrix(prefix_ + name, expert, &weight);
  return ops_->Linear(in, weight, rows, in.size() / rows);
}

void FloatModel::AddTo(const Floats& values) {
  for (size_t i = 0; i < x_.size(); ++i) x_[i] += values[i];
}

// Rotates `dim` values from `first` on in every head; positions start anew in each window.
void FloatModel::Rotate(const RopeSpec& spec, uint64_t heads, uint64_t head_dim, uint64_t first,
                        Floats* values) const {
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

Status FloatModel::Attention(const LayerKind& kind, const Floats& h) {
  const AttentionSpec& a = kind.attention;
  RETURN_IF_ERROR(Show({"attn.q", "attn.k", "attn.v"}, h, tokens_));
  ASSIGN_OR_RETURN(Floats q, Product("attn.q", h, a.qkv_bias));
  ASSIGN_OR_RETURN(Floats k, Product("attn.k", h, a.qkv_bias));
  ASSIGN_OR_RETURN(const Floats v, Product("attn.v", h, a.qkv_bias));
  Rotate(a.rope, a.q_heads, a.head_dim, 0, &q);
  Rotate(a.rope, a.kv_heads, a.head_dim, 0, &k);
  ASSIGN_OR_RETURN(const Floats mixed, ops_->Attention({q, k, v, tokens_, window_, a.q_heads, a.kv_heads,
                                                        a.head_dim, a.window, ScoreScale(kind)}));
  RETURN_IF_ERROR(Show({"attn.o"}, mixed, tokens_));
  ASSIGN_OR_RETURN(const Floats out, Product("attn.o", mixed, a.out_bias));
  AddTo(out);
  return {};
}

// Keys and values per head, as in the paper; values are padded to the width of keys for the operator.
Status FloatModel::Latent(const LayerKind& kind, const Floats& h) {
  const AttentionSpec& a = kind.attention;
  const uint64_t heads = a.q_heads, wide = uint64_t{a.nope_dim} + a.rope.dim, latent = a.kv_lora_rank;
  Floats q;
  if (a.q_lora_rank != 0) {
    RETURN_IF_ERROR(Show({"attn.q_a", "attn.kv_a"}, h, tokens_));
    ASSIGN_OR_RETURN(const Floats low, Product("attn.q_a", h, a.qkv_bias));
    ASSIGN_OR_RETURN(const Floats normed, Norm(low, "attn.q_a_norm", kind.latent_norm_eps));
    RETURN_IF_ERROR(Show({"attn.q_b"}, normed, tokens_));
    ASSIGN_OR_RETURN(q, Product("attn.q_b", normed, false));
  } else {
    RETURN_IF_ERROR(Show({"attn.q", "attn.kv_a"}, h, tokens_));
    ASSIGN_OR_RETURN(q, Product("attn.q", h, a.qkv_bias));
  }
  ASSIGN_OR_RETURN(const Floats kv, Product("attn.kv_a", h, a.qkv_bias));
  Floats compressed(tokens_ * latent), rope_key(tokens_ * a.rope.dim);
  for (uint64_t t = 0; t < tokens_; ++t) {
    const float* row = &kv[t * (latent + a.rope.dim)];
    std::copy_n(row, latent, &compressed[t * latent]);
    std::copy_n(row + latent, a.rope.dim, &rope_key[t * a.rope.dim]);
  }
  ASSIGN_OR_RETURN(const Floats c, Norm(compressed, "attn.kv_a_norm", kind.latent_norm_eps));
  ASSIGN_OR_RETURN(const Floats up, Read(prefix_ + "attn.kv_b"));
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
  RETURN_IF_ERROR(Show({"attn.o"}, mixed, tokens_));
  ASSIGN_OR_RETURN(const Floats out, Product("attn.o", mixed, a.out_bias));
  AddTo(out);
  return {};
}

Status FloatModel::Gated(Activation activation, const std::string& at, bool bias, const Floats& h) {
  RETURN_IF_ERROR(Show({at + "gate", at + "up"}, h, tokens_));
  ASSIGN_OR_RETURN(Floats gate, Product(at + "gate", h, bias));
  ASSIGN_OR_RETURN(const Floats up, Product(at + "up", h, bias));
  Gate(activation, up, &gate);
  RETURN_IF_ERROR(Show({at + "down"}, gate, tokens_));
  ASSIGN_OR_RETURN(const Floats out, Product(at + "down", gate, bias));
  AddTo(out);
  return {};
}

Status FloatModel::Mixture(const MlpSpec& mlp, const Floats& h) {
  const MoeSpec& moe = mlp.moe;
  const uint64_t hidden = spec_.hidden;
  RETURN_IF_ERROR(Show({"moe.router"}, h, tokens_));
  ASSIGN_OR_RETURN(const Floats logits, Product("moe.router", h, false));
  const std::vector<Floats> weights = Route(moe, logits);
  for (uint64_t e = 0; e < moe.experts; ++e) {
    std::vector<uint64_t> chosen;
    for (uint64_t t = 0; t < tokens_; ++t) {
      if (weights[t][e] != 0.0f) chosen.push_back(t);
    }
    if (chosen.empty()) continue;
    Floats in(chosen.size() * hidden);
    for (size_t i = 0; i < chosen.size(); ++i) std::copy_n(&h[chosen[i] * hidden], hidden, &in[i * hidden]);
    RETURN_IF_ERROR(Show({"moe.gate", "moe.up"}, in, chosen.size(), e));
    ASSIGN_OR_RETURN(Floats gate, ExpertProduct("moe.gate", moe, e, in, chosen.size()));
    ASSIGN_OR_RETURN(const Floats up, ExpertProduct("moe.up", moe, e, in, chosen.size()));
    Gate(mlp.activation, up, &gate);
    RETURN_IF_ERROR(Show({"moe.down"}, gate, chosen.size(), e));
    ASSIGN_OR_RETURN(const Floats out, ExpertProduct("moe.down", moe, e, gate, chosen.size()));
    for (size_t i = 0; i < chosen.size(); ++i) {
      for (uint64_t c = 0; c < hidden; ++c)
        x_[chosen[i] * hidden + c] += weights[chosen[i]][e] * out[i * hidden + c];
    }
  }
  return moe.shared_inner != 0 ? Gated(mlp.activation, "moe.shared.", false, h) : Status();
}

// Of each token, by expert: see dsopt_moe_block.
std::vector<std::vector<float>> FloatModel::Route(const MoeSpec& moe, const Floats& logits) const {
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

Result<std::vector<int32_t>> TokenWindows(const std::string& text, const TextWindows& windows,
                                          const TokenizerSpec& spec) {
  if (spec.kind == TokenizerKind::kNone) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "calibration: the model has no tokenizer");
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<const Tokenizer> tokenizer, Tokenizer::Create(spec));
  std::vector<int32_t> ids, tokens;
  RETURN_IF_ERROR(tokenizer->Encode(text, 0, &ids));
  const size_t own = windows.window - (spec.bos >= 0 ? 1 : 0),
               count = std::min<size_t>(windows.windows, ids.size() / own);
  if (count == 0) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "calibration: the text has %zu tokens, at least %zu expected",
                 ids.size(), own);
  }
  // Spread over the text; every eighth comes last, so that the last eighth of the tokens is spread over it, too.
  std::vector<size_t> order;
  for (const bool last : {false, true}) {
    for (size_t w = 0; w < count; ++w) {
      if ((w % 8 == 7) == last) order.push_back(w);
    }
  }
  for (const size_t w : order) {
    const size_t first = count == 1 ? 0 : (ids.size() - own) * w / (count - 1);
    if (spec.bos >= 0) tokens.push_back(spec.bos);
    tokens.insert(tokens.end(), ids.begin() + static_cast<ptrdiff_t>(first),
                  ids.begin() + static_cast<ptrdiff_t>(first + own));
  }
  return tokens;
}

}  // namespace dsopt::tools
