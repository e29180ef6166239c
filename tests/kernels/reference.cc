// reference.cc - see reference.h.
#include "reference.h"

#include <algorithm>
#include <cmath>

namespace dsopt::kernel_test {
namespace {

using Vec = std::vector<double>;

// y = W x for matrix `index` of the weight; W is [rows, cols].
Vec Linear(const TestWeight& w, const Vec& x, uint64_t index = 0) {
  const uint64_t rows = w.desc.rows, cols = w.desc.cols;
  Vec y(rows, 0.0);
  for (uint64_t r = 0; r < rows; ++r) {
    const double* row = &w.values[(index * rows + r) * cols];
    for (uint64_t c = 0; c < cols; ++c) y[r] += row[c] * x[c];
  }
  return y;
}

void AddBias(Vec* y, const BlockWeights& weights, const char* role) {
  const auto found = weights.find(role);
  if (found == weights.end()) return;
  for (size_t i = 0; i < y->size(); ++i) (*y)[i] += found->second->values[i];
}

Vec Norm(const Vec& x, const TestWeight& gain, float eps) {
  double squares = 0.0;
  for (const double v : x) squares += v * v;
  const double scale = 1.0 / std::sqrt(squares / static_cast<double>(x.size()) + static_cast<double>(eps));
  Vec y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * gain.values[i];
  return y;
}

void Rotate(const dsopt_rope& rope, size_t position, double* v) {
  const uint32_t half = rope.dim / 2;
  for (uint32_t i = 0; i < half; ++i) {
    const float angle = static_cast<float>(position) * rope.inv_freq[i];
    const double c = std::cos(static_cast<double>(angle)), s = std::sin(static_cast<double>(angle));
    double& a = v[rope.interleaved != 0 ? 2 * i : i];
    double& b = v[rope.interleaved != 0 ? 2 * i + 1 : i + half];
    const double turned = a * c - b * s;
    b = b * c + a * s;
    a = turned;
  }
}

double Activate(double g, dsopt_activation activation) {
  if (activation == DSOPT_ACT_SILU) return g / (1.0 + std::exp(-g));
  return 0.5 * g * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (g + 0.044715 * g * g * g)));
}

Vec Gated(const TestWeight& gate_up, const TestWeight& down, const BlockWeights& weights, const Vec& h,
          dsopt_activation activation, uint64_t index) {
  Vec both = Linear(gate_up, h, index);
  AddBias(&both, weights, "gate_up_bias");
  const size_t inner = both.size() / 2;
  Vec a(inner);
  for (size_t i = 0; i < inner; ++i) a[i] = Activate(both[i], activation) * both[inner + i];
  return Linear(down, a, index);
}

void Softmax(Vec* s) {
  const double max = *std::max_element(s->begin(), s->end());
  double total = 0.0;
  for (double& v : *s) total += v = std::exp(v - max);
  for (double& v : *s) v /= total;
}

// One block over all positions of one sequence.
class BlockRunner {
 public:
  BlockRunner(const TestModel& model, size_t index, const CacheImage* cache, ReferenceResult* result)
      : model_(model),
        block_(model.blocks[index]),
        w_(model.weights[index]),
        cached_(cache != nullptr ? &(*cache)[index] : nullptr),
        result_(result) {}

  void Run(std::vector<Vec>* x) {
    for (size_t p = 0; p < x->size(); ++p) {
      Vec y;
      switch (block_.kind) {
        case DSOPT_BLOCK_ATTENTION:
          y = Attention((*x)[p], p);
          break;
        case DSOPT_BLOCK_MLA:
          y = Mla((*x)[p], p);
          break;
        case DSOPT_BLOCK_MLP:
          y = Mlp((*x)[p]);
          break;
        default:
          y = Moe((*x)[p], p);
          break;
      }
      for (size_t i = 0; i < y.size(); ++i) (*x)[p][i] += y[i];
    }
  }

 private:
  const TestWeight& W(const char* role) const { return *w_.at(role); }

  // own, a vector just computed, becomes what the cache has in its place.
  void TakeCached(size_t position, size_t vector, double* own) {
    const CachedVector& cached = (*cached_)[position].vectors[vector];
    const size_t count = cached.values.size();
    double squares = 1e-30;
    for (size_t i = 0; i < count; ++i) squares += own[i] * own[i];
    const double unit = std::sqrt(squares / static_cast<double>(count));
    for (size_t i = 0; i < count; ++i) {
      const double beyond = (std::fabs(cached.values[i] - own[i]) - cached.allowed[i]) / unit;
      if (!(beyond <= result_->worst_cache_error)) result_->worst_cache_error = beyond;
      own[i] = cached.values[i];
    }
  }

  Vec Attention(const Vec& x, size_t p) {
    const dsopt_attention_block& b = block_.u.attention;
    Vec qkv = Linear(W("qkv"), Norm(x, W("norm"), b.norm_eps));
    AddBias(&qkv, w_, "qkv_bias");
    const size_t d = b.head_dim;
    for (size_t h = 0; h < b.q_heads + b.kv_heads; ++h) Rotate(model_.ropes[b.rope], p, &qkv[h * d]);
    keys_.emplace_back(qkv.begin() + static_cast<long>(b.q_heads * d),
                       qkv.begin() + static_cast<long>((b.q_heads + b.kv_heads) * d));
    values_.emplace_back(qkv.begin() + static_cast<long>((b.q_heads + b.kv_heads) * d), qkv.end());
    for (size_t h = 0; cached_ != nullptr && h < b.kv_heads; ++h) {
      TakeCached(p, h, &keys_.back()[h * d]);
      TakeCached(p, b.kv_heads + h, &values_.back()[h * d]);
    }
    const size_t first = b.window != 0 && p + 1 > b.window ? p + 1 - b.window : 0;
    Vec mixed(b.q_heads * d, 0.0);
    for (size_t h = 0; h < b.q_heads; ++h) {
      const size_t shared = h / (b.q_heads / b.kv_heads);
      Vec s;
      for (size_t j = first; j <= p; ++j) {
        double dot = 0.0;
        for (size_t i = 0; i < d; ++i) dot += qkv[h * d + i] * keys_[j][shared * d + i];
        s.push_back(dot / std::sqrt(static_cast<double>(d)));
      }
      Softmax(&s);
      for (size_t j = first; j <= p; ++j) {
        for (size_t i = 0; i < d; ++i) mixed[h * d + i] += s[j - first] * values_[j][shared * d + i];
      }
    }
    Vec y = Linear(W("out"), mixed);
    AddBias(&y, w_, "out_bias");
    return y;
  }

  // Not absorbed: keys and values per head, as the paper writes it.
  Vec Mla(const Vec& x, size_t p) {
    const dsopt_mla_block& b = block_.u.mla;
    const Vec a = Linear(W("down"), Norm(x, W("norm"), b.norm_eps));
    const size_t q_part = b.q_rank != 0 ? b.q_rank : size_t{b.heads} * (b.nope + b.rope_dim);
    Vec q(a.begin(), a.begin() + static_cast<long>(q_part));
    if (b.q_rank != 0) q = Linear(W("q_up"), Norm(q, W("q_norm"), b.latent_eps));
    Vec c(a.begin() + static_cast<long>(q_part), a.begin() + static_cast<long>(q_part + b.latent));
    Vec pe(a.begin() + static_cast<long>(q_part + b.latent), a.end());
    Rotate(model_.ropes[b.rope], p, pe.data());
    keys_.push_back(Norm(c, W("latent_norm"), b.latent_eps));
    values_.push_back(pe);
    if (cached_ != nullptr) {
      TakeCached(p, 0, keys_.back().data());
      TakeCached(p, 1, values_.back().data());
    }
    Vec mixed(size_t{b.heads} * b.v_dim, 0.0);
    for (size_t h = 0; h < b.heads; ++h) {
      double* head = &q[h * (b.nope + b.rope_dim)];
      Rotate(model_.ropes[b.rope], p, head + b.nope);
      Vec s;
      for (size_t j = 0; j <= p; ++j) {
        double dot = 0.0;
        for (size_t n = 0; n < b.nope; ++n) {
          const double* row = &W("k_up").values[(h * b.nope + n) * b.latent];
          double key = 0.0;
          for (size_t l = 0; l < b.latent; ++l) key += row[l] * keys_[j][l];
          dot += head[n] * key;
        }
        for (size_t i = 0; i < b.rope_dim; ++i) dot += head[b.nope + i] * values_[j][i];
        s.push_back(dot * static_cast<double>(b.scale));
      }
      Softmax(&s);
      Vec latent(b.latent, 0.0);
      for (size_t j = 0; j <= p; ++j) {
        for (size_t l = 0; l < b.latent; ++l) latent[l] += s[j] * keys_[j][l];
      }
      const Vec v = Linear(W("v_up"), latent, h);
      std::copy(v.begin(), v.end(), mixed.begin() + static_cast<long>(h * b.v_dim));
    }
    return Linear(W("out"), mixed);
  }

  Vec Mlp(const Vec& x) {
    const dsopt_mlp_block& b = block_.u.mlp;
    Vec y = Gated(W("gate_up"), W("down"), w_, Norm(x, W("norm"), b.norm_eps), b.activation, 0);
    AddBias(&y, w_, "down_bias");
    return y;
  }

  Vec Moe(const Vec& x, size_t p) {
    const dsopt_moe_block& b = block_.u.moe;
    const Vec h = Norm(x, W("norm"), b.norm_eps);
    Vec prob = Linear(W("router"), h);
    Softmax(&prob);
    std::vector<bool> allowed(b.experts, true);
    double margin = INFINITY;
    if (b.groups > 1) {
      const size_t each = b.experts / b.groups;
      std::vector<std::pair<double, size_t>> groups;
      for (size_t g = 0; g < b.groups; ++g) {
        groups.emplace_back(-*std::max_element(&prob[g * each], &prob[g * each] + each), g);
      }
      std::sort(groups.begin(), groups.end());
      for (size_t g = b.top_groups; g < b.groups; ++g) {
        for (size_t i = 0; i < each; ++i) allowed[groups[g].second * each + i] = false;
      }
      if (b.top_groups < b.groups) margin = groups[b.top_groups].first - groups[b.top_groups - 1].first;
    }
    std::vector<std::pair<double, size_t>> order;
    for (size_t e = 0; e < b.experts; ++e) {
      if (allowed[e]) order.emplace_back(-prob[e], e);
    }
    std::sort(order.begin(), order.end());
    if (order.size() > b.top_k) margin = std::min(margin, order[b.top_k].first - order[b.top_k - 1].first);
    result_->route_margin[p] = std::min(result_->route_margin[p], margin);
    double total = 0.0;
    for (size_t k = 0; k < b.top_k; ++k) total -= order[k].first;
    Vec y(x.size(), 0.0);
    for (size_t k = 0; k < b.top_k; ++k) {
      const double weight =
          -order[k].first / (b.renormalise != 0 ? total : 1.0) * static_cast<double>(b.route_scale);
      const Vec out = Gated(W("gate_up"), W("down"), w_, h, b.activation, order[k].second);
      for (size_t i = 0; i < y.size(); ++i) y[i] += weight * out[i];
    }
    if (b.shared_inner != 0) {
      const Vec out = Gated(W("shared_gate_up"), W("shared_down"), w_, h, b.activation, 0);
      for (size_t i = 0; i < y.size(); ++i) y[i] += out[i];
    }
    return y;
  }

  const TestModel& model_;
  const dsopt_block& block_;
  const BlockWeights& w_;
  const std::vector<CachedPosition>* cached_;  // NULL: what is computed here is what attention reads
  ReferenceResult* result_;
  std::vector<Vec> keys_, values_;
};

}  // namespace

ReferenceResult RunReference(const TestModel& model, const std::vector<int32_t>& tokens,
                             const CacheImage* cache) {
  ReferenceResult result;
  result.route_margin.assign(tokens.size(), INFINITY);
  const TestWeight& table = *model.weights[0].at("table");
  const double scale = model.shape.embed_scale != 0.0f ? static_cast<double>(model.shape.embed_scale) : 1.0;
  std::vector<Vec> x;
  for (const int32_t token : tokens) {
    const double* row = &table.values[static_cast<size_t>(token) * model.shape.hidden];
    x.emplace_back(row, row + model.shape.hidden);
    for (double& v : x.back()) v *= scale;
  }
  for (size_t i = 1; i + 1 < model.blocks.size(); ++i) BlockRunner(model, i, cache, &result).Run(&x);
  const BlockWeights& head = model.weights.back();
  for (const Vec& row : x) {
    result.logits.push_back(Linear(*head.at("weight"), Norm(row, *head.at("norm"), 1e-5f)));
  }
  return result;
}

}  // namespace dsopt::kernel_test
