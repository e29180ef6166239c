// hostile_body.cc - what only a device with memory of its own can get wrong: index values that the host cannot
// see, pointers to the host's memory.
#include "ops_bodies.h"

namespace dsopt::ops_test {
namespace {

const int32_t kHostile[] = {-1, INT32_MIN, INT32_MAX, 1 << 20, 7, -77};

// Arrays full of one hostile value each, and one of all of them.
std::vector<std::vector<int32_t>> HostileArrays(size_t count) {
  std::vector<std::vector<int32_t>> arrays;
  for (const int32_t value : kHostile) arrays.emplace_back(count, value);
  arrays.emplace_back();
  for (size_t i = 0; i < count; ++i) arrays.back().push_back(kHostile[i % std::size(kHostile)]);
  return arrays;
}

void HostileAttention(Device* device, dsopt_dtype type, int64_t head_dim, int64_t page_tokens) {
  Tensor q(device, type, {6, 2, head_dim}), out(device, type, {6, 2, head_dim});
  Tensor k(device, type, {3, 1, page_tokens, head_dim}), v(device, type, {3, 1, page_tokens, head_dim});
  for (Tensor* t : {&q, &k, &v}) t->Fill([] { return 0.5; });
  for (const bool causal : {true, false}) {
    for (const std::vector<int32_t>& values : HostileArrays(16)) {
      Array<int32_t> array(device, values);
      for (int which = 0; which < 3; ++which) {
        const Array<int32_t> offsets(device, {0, 1, 2, 3, 6}), lengths(device, {1, 2, 3, 4}),
            table(device, {0, 1, 2, 0, 1, 2, 0, 1});
        auto args = Sized<dsopt_attention_args>();
        args.flags = causal ? DSOPT_ATTENTION_CAUSAL : 0;
        args.batch = 4;
        args.max_pages = 2;
        args.q = q;
        args.k = k;
        args.v = v;
        args.out = out;
        args.q_offsets = which == 0 ? static_cast<const int32_t*>(array) : offsets;
        args.kv_lengths = which == 1 ? static_cast<const int32_t*>(array) : lengths;
        args.page_table = which == 2 ? static_cast<const int32_t*>(array) : table;
        Run(device, DSOPT_OP_ATTENTION, &args);
        out.Read();
      }
    }
  }
}

void HostileQkv(Device* device) {
  Tensor x(device, DSOPT_F32, {6, 8}), weight(device, DSOPT_F32, {32, 8}), rope(device, DSOPT_F32, {4, 8});
  Tensor q(device, DSOPT_F32, {6, 2, 8}), k(device, DSOPT_F32, {3, 1, 4, 8}),
      v(device, DSOPT_F32, {3, 1, 4, 8});
  for (Tensor* t : {&x, &weight, &rope}) t->Fill([] { return 0.5; });
  for (const std::vector<int32_t>& values : HostileArrays(6)) {
    const Array<int32_t> array(device, values);
    auto args = Sized<dsopt_qkv_args>();
    args.x = x;
    args.weight = weight;
    args.rope = rope;
    args.positions = array;
    args.token_slots = array;
    args.q = q;
    args.k = k;
    args.v = v;
    Run(device, DSOPT_OP_QKV, &args);
    for (Tensor* t : {&q, &k, &v}) t->Read();
  }
}

void HostileChoice(Device* device, dsopt_dtype type) {
  Tensor x(device, type, {20, 16}), gate_up(device, type, {3, 32, 16}), down(device, type, {3, 16, 16});
  Tensor ids(device, DSOPT_I32, {20, 2}), weights(device, DSOPT_F32, {20, 2}), out(device, DSOPT_F32, {20, 16});
  for (Tensor* t : {&x, &gate_up, &down, &weights}) t->Fill([] { return 0.5; });
  for (const std::vector<int32_t>& values : HostileArrays(40)) {
    size_t i = 0;
    ids.Fill([&] { return static_cast<double>(values[i++]); });
    auto args = Sized<dsopt_moe_args>();
    args.activation = DSOPT_ACT_SILU;
    args.top_k = 2;
    args.x = x;
    args.expert_ids = ids;
    args.expert_weights = weights;
    args.gate_up = gate_up;
    args.down = down;
    args.out = out;
    Run(device, DSOPT_OP_MOE, &args);
    out.Read();
  }
}

void HostileHistory(Device* device) {
  Tensor logits(device, DSOPT_F32, {2, 50}), history(device, DSOPT_I32, {2, 20}),
      counts(device, DSOPT_I32, {2, 20});
  Tensor tokens(device, DSOPT_I32, {2});
  logits.Fill([] { return 1.0; });
  auto params = Sized<dsopt_sampling>();
  params.repeat_penalty = 1.5f;
  for (const std::vector<int32_t>& values : HostileArrays(40)) {
    size_t i = 0;
    history.Fill([&] { return static_cast<double>(values[i++]); });
    counts.Fill([] { return -3.0; });
    auto args = Sized<dsopt_sample_args>();
    args.params_count = 1;
    args.params = &params;
    args.logits = logits;
    args.history = history;
    args.history_counts = counts;
    args.tokens = tokens;
    Run(device, DSOPT_OP_SAMPLE, &args);
    for (const double token : tokens.Read()) CHECK((token >= 0 && token < 50));
  }
}

}  // namespace

void CheckHostileIndices(Device* device) {
  HostileAttention(device, DSOPT_F32, 8, 4);
  HostileAttention(device, DSOPT_BF16, 64, 16);
  HostileAttention(device, DSOPT_BF16, 64, 64);
  HostileQkv(device);
  HostileChoice(device, DSOPT_F32);
  HostileChoice(device, DSOPT_BF16);
  HostileHistory(device);
}

void CheckForeignMemory(Device* device) {
  Tensor x(device, DSOPT_F32, {2, 16}), weight(device, DSOPT_F32, {16}), out(device, DSOPT_F32, {2, 16});
  x.Fill([] { return 1.0; });
  weight.Fill([] { return 1.0; });
  auto args = Sized<dsopt_rmsnorm_args>();
  args.x = x;
  args.weight = weight;
  args.out = out;
  auto launch = Sized<dsopt_launch>();
  launch.stream = device->memory->stream();
  alignas(16) float host[32] = {};
  dsopt_tensor there = x.view;
  there.data = host;
  args.x = &there;
  CHECK(Call(device, DSOPT_OP_RMSNORM, &args, &launch) == DSOPT_E_INVALID_ARGUMENT);
  CHECK(std::string(dsopt_last_error()).find("rmsnorm.x") != std::string::npos);
  CHECK(std::string(dsopt_last_error()).find("host memory") != std::string::npos);
  args.x = x;
  launch.stream = nullptr;
  CHECK(Call(device, DSOPT_OP_RMSNORM, &args, &launch) == DSOPT_E_INVALID_ARGUMENT);
  CHECK(std::string(dsopt_last_error()).find("launch.stream") != std::string::npos);
}

}  // namespace dsopt::ops_test
