// qkv_body.cc - norm, projection, head norms, rotation, and k and v into rows or pages.
#include <algorithm>
#include <cmath>
#include <tuple>

#include "ops_bodies.h"
#include "ops_reference.h"

namespace dsopt::ops_test {
namespace {

struct QkvCase {
  int64_t tokens, hidden, q_heads, kv_heads, head_dim, rope_dim;
  uint32_t interleaved;
  bool norm, bias, head_norms;
  int64_t page_tokens;  // 0: one row per token
  dsopt_dtype x, weight, kv;
};

// Head norm and rotation of one head in place.
void FinishHead(double* value, double* error, const QkvCase& c, const Values* gain, const double* angles,
                double eps) {
  const size_t dim = static_cast<size_t>(c.head_dim);
  if (gain != nullptr) {
    double squares = 0.0, errors = 0.0;
    for (size_t i = 0; i < dim; ++i) {
      squares += value[i] * value[i];
      errors += 2.0 * std::fabs(value[i]) * error[i];
    }
    const double mean = squares / static_cast<double>(dim) + eps, scale = 1.0 / std::sqrt(mean);
    const double drift = 0.5 * errors / static_cast<double>(dim) / mean + kF32Error;  // relative, of scale
    for (size_t i = 0; i < dim; ++i) {
      error[i] = (error[i] + drift * std::fabs(value[i])) * scale * std::fabs((*gain)[i]);
      value[i] *= scale * (*gain)[i];
    }
  }
  const size_t half = static_cast<size_t>(c.rope_dim) / 2;
  for (size_t i = 0; i < half && angles != nullptr; ++i) {
    const size_t a = c.interleaved != 0 ? 2 * i : i, b = c.interleaved != 0 ? 2 * i + 1 : i + half;
    const double x = value[a], y = value[b], cosine = angles[i], sine = angles[half + i];
    value[a] = x * cosine - y * sine;
    value[b] = y * cosine + x * sine;
    const double both = error[a] + error[b] + 1e-6 * (std::fabs(x) + std::fabs(y));
    error[a] = error[b] = both;
  }
}

void CheckOne(Device* device, Random* random, const QkvCase& c) {
  CAPTURE(c.tokens, c.hidden, c.q_heads, c.kv_heads, c.head_dim, c.rope_dim, c.interleaved, c.norm, c.bias,
          c.head_norms, c.page_tokens, c.x, c.weight, c.kv);
  const int64_t outputs = (c.q_heads + 2 * c.kv_heads) * c.head_dim, positions = 50, pages = 7;
  Tensor x(device, c.x, {c.tokens, c.hidden}, 3), norm(device, DSOPT_BF16, {c.hidden});
  Tensor weight(device, c.weight, {outputs, c.hidden}), bias(device, DSOPT_F32, {outputs});
  Tensor q_norm(device, DSOPT_F32, {c.head_dim}), k_norm(device, DSOPT_F16, {c.head_dim});
  Tensor rope(device, DSOPT_F32, {positions, std::max<int64_t>(c.rope_dim, 2)}, 2);
  x.Normal(random);
  norm.Normal(random, 0.2, 1.0);
  weight.Normal(random, 1.0 / std::sqrt(static_cast<double>(c.hidden)));
  bias.Normal(random);
  q_norm.Normal(random, 0.2, 1.0);
  k_norm.Normal(random, 0.2, 1.0);
  rope.Normal(random, 0.7);
  const bool paged = c.page_tokens > 0;
  const std::vector<int64_t> kv_shape = paged
                                            ? std::vector<int64_t>{pages, c.kv_heads, c.page_tokens, c.head_dim}
                                            : std::vector<int64_t>{c.tokens, c.kv_heads, c.head_dim};
  Tensor q(device, c.x, {c.tokens, c.q_heads, c.head_dim}, 8), k(device, c.kv, kv_shape, 8),
      v(device, c.kv, kv_shape, 8);
  std::vector<int32_t> position_values, slots(static_cast<size_t>(pages * std::max<int64_t>(c.page_tokens, 1)));
  for (int64_t t = 0; t < c.tokens; ++t)
    position_values.push_back(static_cast<int32_t>((*random)() % positions));
  for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<int32_t>(i);
  std::shuffle(slots.begin(), slots.end(), *random);
  slots.resize(static_cast<size_t>(c.tokens), -1);
  if (c.tokens > 2) slots[1] = -1;
  Array<int32_t> position_array(device, position_values), slot_array(device, slots);
  auto args = Sized<dsopt_qkv_args>();
  args.eps = 1e-5f;
  args.x = x;
  args.weight = weight;
  args.q = q;
  args.k = k;
  args.v = v;
  args.interleaved = c.interleaved;
  if (c.norm) args.norm = norm;
  if (c.bias) args.bias = bias;
  if (c.head_norms) args.q_norm = q_norm, args.k_norm = k_norm;
  if (c.rope_dim > 0) args.rope = rope, args.positions = position_array;
  if (paged) args.token_slots = slot_array;
  Run(device, DSOPT_OP_QKV, &args);

  const size_t hidden = static_cast<size_t>(c.hidden), dim = static_cast<size_t>(c.head_dim);
  Bounded h = Exactly(x.values);
  if (c.norm) {
    h = RmsNormReference(x.values, hidden, &norm.values, 1e-5);
    const double rounding = c.x == DSOPT_BF16 && c.weight == DSOPT_BF16 ? 1.0 / 256 : 0.0;
    for (size_t i = 0; i < h.value.size(); ++i) h.error[i] += rounding * std::fabs(h.value[i]);
  }
  Bounded y = LinearReference(h, hidden, weight.values.data(), static_cast<size_t>(outputs),
                              c.bias ? &bias.values : nullptr);
  Bounded q_expected = Exactly(q.values), k_expected = Exactly(k.values), v_expected = Exactly(v.values);
  const Values poison = k.values;
  for (int64_t t = 0; t < c.tokens; ++t) {
    const size_t at_position = static_cast<size_t>(position_values[static_cast<size_t>(t)]);
    const double* angles =
        c.rope_dim > 0 ? rope.values.data() + at_position * static_cast<size_t>(c.rope_dim) : nullptr;
    for (int64_t head = 0; head < c.q_heads + 2 * c.kv_heads; ++head) {
      const size_t from = static_cast<size_t>(t * outputs) + static_cast<size_t>(head) * dim;
      const bool is_q = head < c.q_heads, is_v = head >= c.q_heads + c.kv_heads;
      const Values* gain = !c.head_norms || is_v ? nullptr : is_q ? &q_norm.values : &k_norm.values;
      if (!is_v) FinishHead(&y.value[from], &y.error[from], c, gain, angles, 1e-5);
      Bounded* to = is_q ? &q_expected : is_v ? &v_expected : &k_expected;
      const int64_t h_in = is_q ? head : (head - c.q_heads) % c.kv_heads;
      size_t at = is_q ? q.Index({t, h_in, 0}) : 0;
      if (!is_q && paged) {
        const int64_t slot = slots[static_cast<size_t>(t)];
        if (slot < 0) continue;
        at = k.Index({slot / c.page_tokens, h_in, slot % c.page_tokens, 0});
      } else if (!is_q) {
        at = k.Index({t, h_in, 0});
      }
      std::copy_n(&y.value[from], dim, &to->value[at]);
      std::copy_n(&y.error[from], dim, &to->error[at]);
    }
  }
  CheckOutput(&q, q_expected, "q");
  // Places of the cache that no token goes to keep their poison.
  for (auto [tensor, expected, what] : {std::tuple{&k, &k_expected, "k"}, std::tuple{&v, &v_expected, "v"}}) {
    tensor->Read();
    for (size_t i = 0; i < poison.size(); ++i) {
      if (!std::isnan(expected->value[i])) continue;
      REQUIRE(std::isnan(tensor->values[i]));
      tensor->values[i] = expected->value[i] = 0.0;
    }
    Values tolerance = expected->error;
    for (size_t i = 0; i < tolerance.size(); ++i) {
      tolerance[i] += RoundingOf(c.kv) * std::fabs(expected->value[i]);
    }
    CheckClose(tensor->values, expected->value, tolerance, what);
  }
}

// q, k and v as slices of one buffer, as fused attention blocks keep them.
void CheckFused(Device* device, Random* random) {
  constexpr int64_t kTokens = 5, kHidden = 24, kHeads = 2, kDim = 8, kWide = 3 * kHeads * kDim;
  Tensor x(device, DSOPT_F32, {kTokens, kHidden}), weight(device, DSOPT_F32, {kWide, kHidden});
  Tensor fused(device, DSOPT_F32, {kTokens, kWide});
  x.Normal(random);
  weight.Normal(random);
  dsopt_tensor parts[3];
  for (int64_t i = 0; i < 3; ++i) {
    parts[i] = Sized<dsopt_tensor>();
    parts[i].dtype = DSOPT_F32;
    parts[i].ndim = 3;
    const int64_t shape[] = {kTokens, kHeads, kDim}, stride[] = {kWide, kDim, 1};
    std::copy_n(shape, 3, parts[i].shape);
    std::copy_n(stride, 3, parts[i].stride);
    parts[i].data = static_cast<float*>(fused.view.data) + i * kHeads * kDim;
  }
  auto args = Sized<dsopt_qkv_args>();
  args.x = x;
  args.weight = weight;
  args.q = &parts[0];
  args.k = &parts[1];
  args.v = &parts[2];
  Run(device, DSOPT_OP_QKV, &args);
  CheckOutput(&fused, LinearReference(Exactly(x.values), kHidden, weight.values.data(), kWide, nullptr),
              "fused");
}

}  // namespace

void CheckQkv(Device* device) {
  Random random(Seed() + 3);
  INFO("seed " << Seed());
  const dsopt_dtype f32 = DSOPT_F32, f16 = DSOPT_F16, bf16 = DSOPT_BF16;
  for (const QkvCase& c : {QkvCase{1, 7, 1, 1, 1, 0, 0, false, false, false, 0, f32, f32, f32},
                           QkvCase{5, 65, 6, 2, 24, 24, 0, true, false, false, 16, f32, bf16, bf16},
                           QkvCase{9, 128, 4, 4, 32, 16, 1, true, true, true, 5, bf16, bf16, f32},
                           QkvCase{33, 64, 8, 1, 64, 64, 0, true, false, true, 64, bf16, bf16, bf16},
                           QkvCase{3, 40, 3, 3, 10, 6, 0, false, true, false, 0, bf16, f16, bf16},
                           QkvCase{20, 97, 5, 1, 33, 32, 1, false, false, true, 8, bf16, f32, f32}}) {
    CheckOne(device, &random, c);
  }
  CheckFused(device, &random);
}

}  // namespace dsopt::ops_test
