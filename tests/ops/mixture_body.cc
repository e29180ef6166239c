// mixture_body.cc - gated MLPs, alone and as experts of a mixture.
#include <algorithm>
#include <cmath>

#include "ops_bodies.h"
#include "ops_reference.h"

namespace dsopt::ops_test {
namespace {

dsopt_dtype MiddleOf(dsopt_dtype x, dsopt_dtype down) {
  return x == DSOPT_BF16 && down == DSOPT_BF16 ? DSOPT_BF16 : DSOPT_F32;
}

struct MlpCase {
  int64_t tokens, hidden, inner, pad;
};

void CheckOneMlp(Device* device, Random* random, const MlpCase& c, dsopt_dtype x_type, dsopt_dtype up_type,
                 dsopt_dtype down_type, dsopt_dtype out_type, dsopt_activation activation) {
  CAPTURE(c.tokens, c.hidden, c.inner, c.pad, x_type, up_type, down_type, out_type, activation);
  Tensor x(device, x_type, {c.tokens, c.hidden}, c.pad), out(device, out_type, {c.tokens, c.hidden}, c.pad);
  Tensor gate_up(device, up_type, {2 * c.inner, c.hidden}), down(device, down_type, {c.hidden, c.inner});
  x.Normal(random);
  gate_up.Normal(random, 1.0 / std::sqrt(static_cast<double>(c.hidden)));
  down.Normal(random, 1.0 / std::sqrt(static_cast<double>(c.inner)));
  auto args = Sized<dsopt_gated_mlp_args>();
  args.activation = activation;
  args.x = x;
  args.gate_up = gate_up;
  args.down = down;
  args.out = out;
  Run(device, DSOPT_OP_GATED_MLP, &args);
  CheckOutput(
      &out,
      GatedReference(Exactly(x.values), static_cast<size_t>(c.hidden), gate_up.values.data(),
                     down.values.data(), static_cast<size_t>(c.inner), activation, MiddleOf(x_type, down_type)),
      "out");
}

struct MoeCase {
  int64_t tokens, hidden, experts, inner, shared_inner;
  uint32_t top_k, groups, top_groups, renormalise;
  float route_scale;
  bool given, want_choice;
  dsopt_dtype x, router, weights, out;
};

struct Choice {
  std::vector<int32_t> ids;
  Values weights;
};

// The choice of one token from its probabilities. *margin: the smallest gap that could turn it.
Choice Choose(const MoeCase& c, std::vector<double> p, double* margin) {
  const size_t experts = p.size();
  if (c.groups > 1) {
    const size_t per_group = experts / c.groups;
    std::vector<std::pair<double, size_t>> best;
    for (size_t g = 0; g < c.groups; ++g) {
      best.emplace_back(-*std::max_element(&p[g * per_group], &p[g * per_group] + per_group), g);
    }
    std::sort(best.begin(), best.end());
    if (c.top_groups < c.groups)
      *margin = std::min(*margin, best[c.top_groups].first - best[c.top_groups - 1].first);
    for (size_t i = c.top_groups; i < best.size(); ++i) {
      std::fill_n(&p[best[i].second * per_group], per_group, -1.0);
    }
  }
  Choice choice;
  double total = 0.0;
  for (uint32_t n = 0; n < c.top_k; ++n) {
    const auto best = std::max_element(p.begin(), p.end());
    const double chosen = *best;
    choice.ids.push_back(static_cast<int32_t>(best - p.begin()));
    choice.weights.push_back(chosen);
    total += chosen;
    *best = -1.0;
    *margin = std::min(*margin, chosen - *std::max_element(p.begin(), p.end()));
  }
  for (double& w : choice.weights) {
    w *= (c.renormalise != 0 ? 1.0 / total : 1.0) *
         (c.route_scale != 0.0f ? static_cast<double>(c.route_scale) : 1.0);
  }
  return choice;
}

void CheckOneMoe(Device* device, Random* random, const MoeCase& c) {
  CAPTURE(c.tokens, c.hidden, c.experts, c.inner, c.shared_inner, c.top_k, c.groups, c.top_groups,
          c.renormalise, c.route_scale, c.given, c.x, c.router, c.weights, c.out);
  const size_t hidden = static_cast<size_t>(c.hidden), inner = static_cast<size_t>(c.inner);
  const size_t experts = static_cast<size_t>(c.experts), tokens = static_cast<size_t>(c.tokens);
  Tensor x(device, c.x, {c.tokens, c.hidden}, 8), out(device, c.out, {c.tokens, c.hidden}, 8);
  Tensor router(device, c.router, {c.experts, c.hidden}),
      gate_up(device, c.weights, {c.experts, 2 * c.inner, c.hidden});
  Tensor down(device, c.weights, {c.experts, c.hidden, c.inner});
  Tensor ids(device, DSOPT_I32, {c.tokens, c.top_k}), weights(device, DSOPT_F32, {c.tokens, c.top_k});
  const int64_t shared = std::max<int64_t>(c.shared_inner, 1);
  Tensor shared_up(device, c.weights, {2 * shared, c.hidden}),
      shared_down(device, c.weights, {c.hidden, shared});
  const double up_scale = 1.0 / std::sqrt(static_cast<double>(c.hidden));
  const double down_scale = 1.0 / std::sqrt(static_cast<double>(c.inner));
  x.Normal(random);
  router.Normal(random, up_scale);
  gate_up.Normal(random, up_scale);
  down.Normal(random, down_scale);
  shared_up.Normal(random, up_scale);
  shared_down.Normal(random, down_scale);
  auto args = Sized<dsopt_moe_args>();
  args.activation = DSOPT_ACT_SILU;
  args.top_k = c.top_k;
  args.groups = c.groups;
  args.top_groups = c.top_groups;
  args.renormalise = c.renormalise;
  args.route_scale = c.route_scale;
  args.x = x;
  args.gate_up = gate_up;
  args.down = down;
  args.out = out;
  if (c.shared_inner > 0) args.shared_gate_up = shared_up, args.shared_down = shared_down;
  std::vector<Choice> choices;
  double margin = 1.0;
  if (c.given) {
    for (size_t t = 0; t < tokens; ++t) {
      Choice choice;
      for (uint32_t n = 0; n < c.top_k; ++n) {  // an expert may come twice
        choice.ids.push_back(static_cast<int32_t>((*random)() % experts));
        choice.weights.push_back(RoundTo(DSOPT_F32, std::normal_distribution<double>()(*random)));
      }
      choices.push_back(choice);
    }
    Values all_ids, all_weights;
    for (const Choice& choice : choices) {
      all_ids.insert(all_ids.end(), choice.ids.begin(), choice.ids.end());
      all_weights.insert(all_weights.end(), choice.weights.begin(), choice.weights.end());
    }
    ids.Set(all_ids);
    weights.Set(all_weights);
  } else {
    args.router = router;
    const Bounded logits = LinearReference(Exactly(x.values), hidden, router.values.data(), experts, nullptr);
    for (size_t t = 0; t < tokens; ++t) {
      std::vector<double> p(&logits.value[t * experts], &logits.value[t * experts] + experts);
      double total = 0.0;
      for (double& l : p) total += l = std::exp(l);
      for (double& l : p) l /= total;
      choices.push_back(Choose(c, p, &margin));
    }
    if (margin < 1e-5) return;  // f32 may choose otherwise: nothing to compare
  }
  if (c.given || c.want_choice) args.expert_ids = ids, args.expert_weights = weights;
  Run(device, DSOPT_OP_MOE, &args);

  Bounded expected = Exactly(Values(tokens * hidden, 0.0));
  for (size_t t = 0; t < tokens; ++t) {
    const Values row(&x.values[t * hidden], &x.values[t * hidden] + hidden);
    const auto add = [&](const double* up, const double* to, size_t width, double weight, double drift) {
      const Bounded y =
          GatedReference(Exactly(row), hidden, up, to, width, DSOPT_ACT_SILU, MiddleOf(c.x, c.weights));
      for (size_t i = 0; i < hidden; ++i) {
        expected.value[t * hidden + i] += weight * y.value[i];
        expected.error[t * hidden + i] +=
            std::fabs(weight) * (y.error[i] + (drift + 1e-6) * std::fabs(y.value[i]));
      }
    };
    for (uint32_t n = 0; n < c.top_k; ++n) {
      const size_t e = static_cast<size_t>(choices[t].ids[n]);
      add(&gate_up.values[e * 2 * inner * hidden], &down.values[e * hidden * inner], inner,
          choices[t].weights[n], c.given ? 0.0 : 2e-5);
    }
    if (c.shared_inner > 0) {
      add(shared_up.values.data(), shared_down.values.data(), static_cast<size_t>(c.shared_inner), 1.0, 0.0);
    }
  }
  CheckOutput(&out, expected, "out");
  if (c.given || !c.want_choice) return;
  ids.Read();
  weights.Read();
  for (size_t i = 0; i < tokens * c.top_k; ++i) {
    CAPTURE(i);
    REQUIRE(ids.values[i] == choices[i / c.top_k].ids[i % c.top_k]);
    REQUIRE(std::fabs(weights.values[i] - choices[i / c.top_k].weights[i % c.top_k]) < 2e-5);
  }
}

}  // namespace

void CheckGatedMlp(Device* device) {
  Random random(Seed() + 5);
  INFO("seed " << Seed());
  const dsopt_dtype f32 = DSOPT_F32, f16 = DSOPT_F16, bf16 = DSOPT_BF16;
  for (const MlpCase& c : {MlpCase{1, 1, 1, 0}, MlpCase{1, 64, 96, 0}, MlpCase{7, 65, 33, 3},
                           MlpCase{70, 128, 72, 8}, MlpCase{110, 24, 129, 0}}) {
    CheckOneMlp(device, &random, c, f32, f32, f32, f32, DSOPT_ACT_SILU);
    CheckOneMlp(device, &random, c, bf16, bf16, bf16, bf16, DSOPT_ACT_GELU_TANH);
    CheckOneMlp(device, &random, c, bf16, bf16, bf16, f32, DSOPT_ACT_SILU);
    CheckOneMlp(device, &random, c, f32, bf16, bf16, bf16, DSOPT_ACT_GELU_TANH);
    CheckOneMlp(device, &random, c, bf16, f16, bf16, bf16, DSOPT_ACT_SILU);
    CheckOneMlp(device, &random, c, bf16, bf16, f16, f32, DSOPT_ACT_SILU);
  }
}

void CheckMoe(Device* device) {
  Random random(Seed() + 6);
  INFO("seed " << Seed());
  const dsopt_dtype f32 = DSOPT_F32, f16 = DSOPT_F16, bf16 = DSOPT_BF16;
  for (const MoeCase& c : {MoeCase{1, 8, 1, 3, 0, 1, 0, 0, 0, 0.0f, false, true, f32, f32, f32, f32},
                           MoeCase{1, 64, 8, 40, 0, 2, 0, 0, 1, 0.0f, false, true, bf16, bf16, bf16, bf16},
                           MoeCase{5, 64, 8, 40, 24, 2, 0, 0, 1, 0.0f, false, false, bf16, f32, bf16, f32},
                           MoeCase{37, 72, 16, 32, 40, 4, 4, 2, 0, 2.5f, false, true, bf16, bf16, bf16, bf16},
                           MoeCase{9, 33, 6, 17, 5, 3, 3, 3, 1, 0.5f, false, true, f32, f16, f16, bf16},
                           MoeCase{130, 40, 5, 16, 0, 2, 0, 0, 1, 0.0f, true, false, bf16, f32, bf16, bf16},
                           MoeCase{6, 65, 7, 9, 3, 4, 0, 0, 0, 0.0f, true, false, bf16, f32, f32, f32}}) {
    MoeCase now = c;
    if (now.given) now.renormalise = 0;
    CheckOneMoe(device, &random, now);
  }
}

}  // namespace dsopt::ops_test
