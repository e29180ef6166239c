// route.cc - see route.h.
#include "route.h"

namespace dsopt_cpu {
namespace {

// Marks in allowed[group] the top_groups groups with the largest maximum of p.
void ChooseGroups(const RouteRule& rule, const float* p, bool* allowed) {
  const uint32_t per_group = rule.experts / rule.groups;
  float best[kMaxGroups];
  for (uint32_t g = 0; g < rule.groups; ++g) {
    best[g] = -1.0f;
    for (uint32_t i = 0; i < per_group; ++i) best[g] = Max(best[g], p[g * per_group + i]);
    allowed[g] = false;
  }
  for (uint32_t n = 0; n < rule.top_groups; ++n) {
    uint32_t chosen = rule.groups;
    for (uint32_t g = 0; g < rule.groups; ++g) {
      if (!allowed[g] && (chosen == rule.groups || best[g] > best[chosen])) chosen = g;
    }
    allowed[chosen] = true;
  }
}

}  // namespace

void RouteRow(const Kernels& k, const RouteRule& rule, float* logits, int32_t* chosen, float* weights) {
  float* prob = logits;
  float max;
  k.max(prob, rule.experts, &max);
  const float sum = static_cast<float>(k.sum_exp(prob, rule.experts, max));
  k.exp_scaled(prob, rule.experts, max, 1.0f, prob);
  for (uint32_t e = 0; e < rule.experts; ++e) prob[e] /= sum;

  bool allowed[kMaxGroups];
  const bool grouped = rule.groups > 1;
  if (grouped) ChooseGroups(rule, prob, allowed);
  const uint32_t per_group = grouped ? rule.experts / rule.groups : rule.experts;
  float total = 0.0f;
  for (uint32_t n = 0; n < rule.top_k; ++n) {
    uint32_t best = rule.experts;
    for (uint32_t e = 0; e < rule.experts; ++e) {
      if (grouped && !allowed[e / per_group]) continue;
      if (prob[e] >= 0.0f && (best == rule.experts || prob[e] > prob[best])) best = e;
    }
    if (best == rule.experts) {  // only if a logit was not a number: any expert, no weight
      chosen[n] = 0;
      weights[n] = 0.0f;
      continue;
    }
    chosen[n] = static_cast<int32_t>(best);
    weights[n] = prob[best];
    total += prob[best];
    prob[best] = -1.0f;
  }
  for (uint32_t n = 0; n < rule.top_k; ++n) {
    if (rule.renormalise && total > 0.0f) weights[n] /= total;
    weights[n] *= rule.scale;
  }
}

void SortSlots(const int32_t* chosen, uint32_t slots, uint32_t experts, uint32_t* order, uint32_t* first,
               uint32_t* cursor) {
  for (uint32_t e = 0; e <= experts; ++e) first[e] = 0;
  for (uint32_t s = 0; s < slots; ++s) ++first[chosen[s] + 1];
  for (uint32_t e = 0; e < experts; ++e) first[e + 1] += first[e];
  for (uint32_t e = 0; e < experts; ++e) cursor[e] = first[e];
  for (uint32_t s = 0; s < slots; ++s) order[cursor[chosen[s]]++] = s;
}

}  // namespace dsopt_cpu
