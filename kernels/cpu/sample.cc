// sample.cc - see sample.h. Nothing is sorted but the bucket of logits in which a running sum crosses its
// target.
#include "sample.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace dsopt_cpu {

uint32_t PhiloxWord(uint64_t key, uint64_t counter) {
  uint32_t c[4] = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0};
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c[0], b = uint64_t{0xCD9E8D57u} * c[2];
    const uint32_t next[4] = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(b),
                              static_cast<uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(a)};
    std::memcpy(c, next, sizeof(c));
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c[0];
}

namespace {

// Tokens still in the game, ascending ids.
struct Survivors {
  int32_t* ids;
  uint32_t count;
};

constexpr uint32_t kBuckets = 512;
constexpr uint32_t kSortAtOnce = 1024;

double WeightOf(const float* weights, int32_t id) {
  return weights != nullptr ? static_cast<double>(weights[id]) : 1.0;
}

// Walking by descending key (ties: ascending id), the first token at which the running sum of weights (NULL: 1
// each) reaches target (beyond: exceeds it); the last token if rounding keeps it from ever doing so.
int32_t FindCut(const Survivors& from, const float* key, const float* weights, double target, bool beyond,
                int32_t* order) {
  const int32_t* ids = from.ids;
  uint32_t count = from.count;
  double before = 0.0;  // weight of everything ahead of ids
  while (true) {
    float high = key[ids[0]], low = high;
    for (uint32_t i = 1; i < count; ++i) {
      const float value = key[ids[i]];
      high = Max(high, value);
      low = Min(low, value);
    }
    const float scale = static_cast<float>(kBuckets - 1) / (high - low);
    const bool splits = std::isfinite(scale) && (high - low) * scale > 1.0f;  // not for absurd ranges
    if (low == high || count <= kSortAtOnce || !splits) {
      if (ids != order) std::memmove(order, ids, count * sizeof(*ids));
      if (low != high) {
        std::sort(order, order + count,
                  [key](int32_t a, int32_t b) { return key[a] != key[b] ? key[a] > key[b] : a < b; });
      }
      for (uint32_t i = 0; i < count; ++i) {
        before += WeightOf(weights, order[i]);
        if (beyond ? before > target : before >= target) return order[i];
      }
      return order[count - 1];
    }
    double sums[2][kBuckets] = {};  // even and odd candidates: neighbours often meet in one bucket
    uint32_t counts[kBuckets] = {};
    const auto bucket_of = [&](int32_t id) {
      return Min(static_cast<uint32_t>((high - key[id]) * scale), kBuckets - 1);
    };
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t b = bucket_of(ids[i]);
      sums[i % 2][b] += WeightOf(weights, ids[i]);
      ++counts[b];
    }
    for (uint32_t b = 0; b < kBuckets; ++b) sums[0][b] += sums[1][b];
    uint32_t chosen = 0;
    for (uint32_t b = 0; b < kBuckets; ++b) {
      if (counts[b] == 0) continue;
      if (b != 0) before += sums[0][chosen];
      chosen = b;
      if (beyond ? before + sums[0][b] > target : before + sums[0][b] >= target) break;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; ++i) {
      const int32_t id = ids[i];  // read first: order may be ids
      order[kept] = id;
      kept += bucket_of(id) == chosen ? 1 : 0;
    }
    ids = order;
    count = kept;
  }
}

// Drops everything behind the cut token.
void KeepUpTo(Survivors* s, const float* key, int32_t cut) {
  const float limit = key[cut];
  int32_t* ids = s->ids;
  uint32_t kept = 0;
  for (uint32_t i = 0, count = s->count; i < count; ++i) {
    const int32_t id = ids[i];
    ids[kept] = id;
    kept += key[id] > limit || (key[id] == limit && id <= cut) ? 1 : 0;
  }
  s->count = kept;
}

double TotalWeight(const Survivors& s, const float* weights) {
  double sums[4] = {};  // four chains: one would wait for each addition
  uint32_t i = 0;
  for (; i + 4 <= s.count; i += 4) {
    for (uint32_t j = 0; j < 4; ++j) sums[j] += static_cast<double>(weights[s.ids[i + j]]);
  }
  for (; i < s.count; ++i) sums[0] += static_cast<double>(weights[s.ids[i]]);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

void KeepSigma(Survivors* s, const float* logits, uint32_t vocab, float max, float sigmas) {
  double sum = 0.0, squares = 0.0;
  uint64_t finite = 0;
  for (uint32_t i = 0; i < vocab; ++i) {
    const double d = static_cast<double>(logits[i]) - static_cast<double>(max);
    if (!std::isfinite(d)) continue;
    sum += d;
    squares += d * d;
    ++finite;
  }
  const double n = static_cast<double>(finite);
  const double deviation = std::sqrt(Max(0.0, squares / n - (sum / n) * (sum / n)));
  uint32_t kept = 0;
  for (uint32_t i = 0; i < s->count; ++i) {
    const double d = static_cast<double>(logits[s->ids[i]]) - static_cast<double>(max);
    if (d >= -static_cast<double>(sigmas) * deviation) s->ids[kept++] = s->ids[i];
  }
  s->count = kept;
}

// -log p of a token is log(total) - d, d = (logit - max) / temperature.
void KeepTypical(Survivors* s, const float* logits, float max, float inv_t, const float* weights, float mass,
                 float* key, int32_t* order) {
  const double total = TotalWeight(*s, weights), log_total = std::log(total);
  const auto surprise = [=](int32_t id) { return log_total - static_cast<double>((logits[id] - max) * inv_t); };
  double entropy = 0.0;
  for (uint32_t i = 0; i < s->count; ++i) {
    entropy += static_cast<double>(weights[s->ids[i]]) / total * surprise(s->ids[i]);
  }
  for (uint32_t i = 0; i < s->count; ++i) {
    key[s->ids[i]] = -static_cast<float>(std::fabs(surprise(s->ids[i]) - entropy));
  }
  KeepUpTo(s, key, FindCut(*s, key, weights, static_cast<double>(mass) * total, false, order));
}

void KeepMinP(Survivors* s, const float* weights, float min_p) {
  float most = 0.0f;
  for (uint32_t i = 0; i < s->count; ++i) most = Max(most, weights[s->ids[i]]);
  uint32_t kept = 0;
  for (uint32_t i = 0; i < s->count; ++i) {
    if (weights[s->ids[i]] >= min_p * most) s->ids[kept++] = s->ids[i];
  }
  s->count = kept;
}

// Steps 1 and 2. Returns the logits to go on with: the given ones if nothing changes.
const float* Adjust(const SampleInput& in, float* copy) {
  const dsopt_sample_row& row = *in.row;
  if (row.adjust_count == 0 && row.history_count == 0) return in.logits;
  std::memcpy(copy, in.logits, in.vocab * sizeof(float));
  for (uint32_t i = 0; i < row.adjust_count; ++i) {
    float* l = &copy[in.adjust_tokens[i]];
    *l = in.adjust_bias[i] == -INFINITY ? -INFINITY : *l + in.adjust_bias[i];
  }
  const float repeat = row.repeat_penalty != 0.0f ? row.repeat_penalty : 1.0f;
  for (uint32_t i = 0; i < row.history_count; ++i) {
    float* l = &copy[in.history_tokens[i]];
    *l = *l > 0.0f ? *l / repeat : *l * repeat;
    *l -= static_cast<float>(in.history_counts[i]) * row.frequency_penalty + row.presence_penalty;
  }
  return copy;
}

int32_t ArgMax(const Kernels& k, const float* logits, uint32_t vocab, float max) {
  constexpr uint32_t kPiece = 1024;
  for (uint32_t first = 0; first < vocab; first += kPiece) {
    const uint32_t count = Min(kPiece, vocab - first);
    float piece;
    k.max(logits + first, count, &piece);
    if (piece != max) continue;
    for (uint32_t i = 0; i < count; ++i) {
      if (logits[first + i] == max) return static_cast<int32_t>(first + i);
    }
  }
  return 0;  // every logit is -inf or not a number
}

// Ids with a probability, ascending; returns how many.
uint32_t LikelyTokens(const float* probs, uint32_t vocab, int32_t* ids) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < vocab; ++i) {
    ids[count] = static_cast<int32_t>(i);
    count += probs[i] > 0.0f ? 1 : 0;
  }
  return count;
}

int32_t Draw(const Kernels& k, const SampleInput& in, const SampleScratch& scratch, const float* logits,
             float max) {
  const dsopt_sample_row& row = *in.row;
  k.exp_scaled(logits, in.vocab, max, 1.0f / row.temperature, scratch.probs);
  Survivors s{scratch.ids, LikelyTokens(scratch.probs, in.vocab, scratch.ids)};
  if (s.count == 0 || !std::isfinite(max)) return ArgMax(k, logits, in.vocab, max);
  if (row.top_k != 0 && row.top_k < s.count) {
    KeepUpTo(&s, logits, FindCut(s, logits, nullptr, row.top_k, false, scratch.order));
  }
  if (row.top_n_sigma > 0.0f) KeepSigma(&s, logits, in.vocab, max, row.top_n_sigma);
  if (row.typical_p > 0.0f && row.typical_p < 1.0f) {
    KeepTypical(&s, logits, max, 1.0f / row.temperature, scratch.probs, row.typical_p, scratch.typical,
                scratch.order);
  }
  if (row.top_p > 0.0f && row.top_p < 1.0f) {
    const double target = static_cast<double>(row.top_p) * TotalWeight(s, scratch.probs);
    KeepUpTo(&s, logits, FindCut(s, logits, scratch.probs, target, false, scratch.order));
  }
  if (row.min_p > 0.0f) KeepMinP(&s, scratch.probs, row.min_p);
  const double u = static_cast<double>(PhiloxWord(row.seed, row.counter)) * 0x1p-32;
  return FindCut(s, logits, scratch.probs, u * TotalWeight(s, scratch.probs), true, scratch.order);
}

void TopLogprobs(const SampleInput& in, float max, double log_sum, SampleOutput* out) {
  const uint32_t wanted = Min(in.row->top_logprobs, Min<uint32_t>(DSOPT_MAX_TOP_LOGPROBS, in.vocab));
  float best[DSOPT_MAX_TOP_LOGPROBS];
  uint32_t count = 0;
  for (uint32_t i = 0; wanted > 0 && i < in.vocab; ++i) {
    const float l = in.logits[i];
    if (count == wanted && !(l > best[count - 1])) continue;
    const float value = std::isnan(l) ? -INFINITY : l;
    uint32_t at = count < wanted ? count++ : count - 1;
    for (; at > 0 && value > best[at - 1]; --at) {
      best[at] = best[at - 1];
      out->top_tokens[at] = out->top_tokens[at - 1];
    }
    best[at] = value;
    out->top_tokens[at] = static_cast<int32_t>(i);
  }
  for (uint32_t i = 0; i < DSOPT_MAX_TOP_LOGPROBS; ++i) {
    if (i >= count) out->top_tokens[i] = -1;
    out->top_logprobs[i] =
        i < count ? static_cast<float>(static_cast<double>(best[i]) - static_cast<double>(max) - log_sum)
                  : -INFINITY;
  }
}

}  // namespace

void SampleRow(const Kernels& k, const SampleInput& in, const SampleScratch& scratch, SampleOutput* out) {
  float max;
  k.max(in.logits, in.vocab, &max);
  const double log_sum = std::log(k.sum_exp(in.logits, in.vocab, max));
  if (in.row->mode == DSOPT_SCORE) {
    out->token = in.row->target;
  } else {
    const float* logits = Adjust(in, scratch.logits);
    float top = max;
    if (logits != in.logits) k.max(logits, in.vocab, &top);
    out->token =
        in.row->temperature == 0.0f ? ArgMax(k, logits, in.vocab, top) : Draw(k, in, scratch, logits, top);
  }
  out->logprob =
      static_cast<float>(static_cast<double>(in.logits[out->token]) - static_cast<double>(max) - log_sum);
  TopLogprobs(in, max, log_sum, out);
}

}  // namespace dsopt_cpu
