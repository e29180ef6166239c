// wrong_use_body.cc - a valid call of every operator, then the same call with one thing wrong at a time.
#include <cmath>
#include <cstring>
#include <deque>

#include "ops_bodies.h"

namespace dsopt::ops_test {
namespace {

union Args {
  dsopt_rmsnorm_args rmsnorm;
  dsopt_linear_args linear;
  dsopt_qkv_args qkv;
  dsopt_attention_args attention;
  dsopt_gated_mlp_args gated_mlp;
  dsopt_moe_args moe;
  dsopt_sample_args sample;
};

constexpr dsopt_status kAnyFailure = 0;  // as an expected status

struct Operand {
  const char* name;
  const dsopt_tensor** slot;
  bool required, output;
  std::unique_ptr<Tensor> tensor;
  dsopt_tensor view;
};

// A call that works, with all its operands.
class Fixture {
 public:
  Fixture(Device* on, dsopt_op which, const char* called) : device(on), op(which), name(called) {
    std::memset(static_cast<void*>(&args), 0, sizeof args);
  }
  void Add(const char* operand, const dsopt_tensor** slot, dsopt_dtype dtype, std::vector<int64_t> shape,
           bool output = false, bool required = true) {
    operands.push_back({operand, slot, required, output, std::make_unique<Tensor>(device, dtype, shape), {}});
    Operand& o = operands.back();
    if (!output) o.tensor->Fill([] { return 0.0; });
    o.view = o.tensor->view;
    *slot = &o.view;
  }
  const int32_t* Ints(const std::vector<int32_t>& values) {
    arrays.push_back(std::make_unique<Array<int32_t>>(device, values));
    return *arrays.back();
  }
  Operand& Named(const char* operand) {
    for (Operand& o : operands) {
      if (std::strcmp(o.name, operand) == 0) return o;
    }
    FAIL("no operand " << operand);
    return operands.front();
  }
  void PrepareWorkspace() {
    size_t bytes = 0;
    REQUIRE(dsopt_op_workspace(device->ops, op, &args, &bytes, nullptr) == DSOPT_OK);
    workspace = std::make_unique<Buffer>(device, bytes, 0);
    launch = Sized<dsopt_launch>();
    launch.stream = device->memory->stream();
    launch.workspace = workspace->data();
    launch.workspace_size = bytes;
  }
  // The call fails with `code`, says `text`, and no output has changed.
  void Fails(dsopt_status code, const std::string& text) {
    const dsopt_status status = Call(device, op, &args, &launch);
    const std::string message = dsopt_last_error();
    INFO(name << ": " << message);
    if (code == kAnyFailure) {
      CHECK(status < 0);
    } else {
      CHECK(status == code);
    }
    CHECK(message.find(text) != std::string::npos);
    for (const Operand& o : operands) {
      if (!o.output) continue;
      bool untouched = true;
      for (const double value : o.tensor->Read()) untouched = untouched && !std::isfinite(value);
      if (o.tensor->view.dtype == DSOPT_I32) {
        untouched = true;
        for (const double value : o.tensor->values) untouched = untouched && value == -1.0;
      }
      CHECK(untouched);
    }
  }

  Device* const device;
  const dsopt_op op;
  const char* const name;
  Args args;
  dsopt_launch launch = {};
  std::deque<Operand> operands;
  std::vector<std::unique_ptr<Array<int32_t>>> arrays;
  std::unique_ptr<Buffer> workspace;
};

constexpr int64_t kTokens = 6, kHidden = 16;
const dsopt_dtype kF32 = DSOPT_F32, kBf16 = DSOPT_BF16, kI32 = DSOPT_I32;

void BuildRmsNorm(Fixture* f) {
  dsopt_rmsnorm_args& a = f->args.rmsnorm;
  a.struct_size = sizeof a;
  f->Add("x", &a.x, kBf16, {kTokens, kHidden});
  f->Add("weight", &a.weight, kF32, {kHidden});
  f->Add("out", &a.out, kF32, {kTokens, kHidden}, true);
}
void BuildLinear(Fixture* f) {
  dsopt_linear_args& a = f->args.linear;
  a.struct_size = sizeof a;
  f->Add("x", &a.x, kBf16, {kTokens, kHidden});
  f->Add("weight", &a.weight, kBf16, {24, kHidden});
  f->Add("bias", &a.bias, kF32, {24}, false, false);
  f->Add("out", &a.out, kF32, {kTokens, 24}, true);
}
void BuildQkv(Fixture* f) {
  dsopt_qkv_args& a = f->args.qkv;
  a.struct_size = sizeof a;
  f->Add("x", &a.x, kF32, {kTokens, kHidden});
  f->Add("norm", &a.norm, kF32, {kHidden}, false, false);
  f->Add("weight", &a.weight, kBf16, {32, kHidden});
  f->Add("bias", &a.bias, kF32, {32}, false, false);
  f->Add("q_norm", &a.q_norm, kF32, {8}, false, false);
  f->Add("k_norm", &a.k_norm, kF32, {8}, false, false);
  f->Add("rope", &a.rope, kF32, {10, 8}, false, false);
  f->Add("q", &a.q, kF32, {kTokens, 2, 8}, true);
  f->Add("k", &a.k, kBf16, {3, 1, 16, 8}, true);
  f->Add("v", &a.v, kBf16, {3, 1, 16, 8}, true);
  a.positions = f->Ints({0, 1, 2, 3, 4, 9});
  a.token_slots = f->Ints({0, 1, 20, 47, -1, 3});
}
void BuildAttention(Fixture* f) {
  dsopt_attention_args& a = f->args.attention;
  a.struct_size = sizeof a;
  a.flags = DSOPT_ATTENTION_CAUSAL;
  a.batch = 2;
  a.max_pages = 2;
  f->Add("q", &a.q, kF32, {kTokens, 2, 8});
  f->Add("k", &a.k, kBf16, {5, 1, 16, 8});
  f->Add("v", &a.v, kBf16, {5, 1, 16, 8});
  f->Add("out", &a.out, kF32, {kTokens, 2, 8}, true);
  a.q_offsets = f->Ints({0, 2, 6});
  a.kv_lengths = f->Ints({20, 9});
  a.page_table = f->Ints({4, 2, 0, -1});
}
void BuildGatedMlp(Fixture* f) {
  dsopt_gated_mlp_args& a = f->args.gated_mlp;
  a.struct_size = sizeof a;
  a.activation = DSOPT_ACT_SILU;
  f->Add("x", &a.x, kBf16, {kTokens, kHidden});
  f->Add("gate_up", &a.gate_up, kBf16, {24, kHidden});
  f->Add("down", &a.down, kBf16, {kHidden, 12});
  f->Add("out", &a.out, kF32, {kTokens, kHidden}, true);
}
void BuildMoe(Fixture* f) {
  dsopt_moe_args& a = f->args.moe;
  a.struct_size = sizeof a;
  a.activation = DSOPT_ACT_SILU;
  a.top_k = 2;
  f->Add("x", &a.x, kBf16, {kTokens, kHidden});
  f->Add("router", &a.router, kF32, {4, kHidden}, false, false);
  f->Add("expert_ids", &a.expert_ids, kI32, {kTokens, 2}, true, false);
  f->Add("expert_weights", &a.expert_weights, kF32, {kTokens, 2}, true, false);
  f->Add("gate_up", &a.gate_up, kBf16, {4, 24, kHidden});
  f->Add("down", &a.down, kBf16, {4, kHidden, 12});
  f->Add("shared_gate_up", &a.shared_gate_up, kBf16, {8, kHidden}, false, false);
  f->Add("shared_down", &a.shared_down, kBf16, {kHidden, 4}, false, false);
  f->Add("out", &a.out, kF32, {kTokens, kHidden}, true);
}
const dsopt_sampling& Greedy() {
  static const dsopt_sampling greedy = Sized<dsopt_sampling>();
  return greedy;
}
void BuildSample(Fixture* f) {
  dsopt_sample_args& a = f->args.sample;
  a.struct_size = sizeof a;
  a.params_count = 1;
  a.params = &Greedy();
  f->Add("logits", &a.logits, kF32, {kTokens, 40});
  f->Add("history", &a.history, kI32, {kTokens, 3}, false, false);
  f->Add("history_counts", &a.history_counts, kI32, {kTokens, 3}, false, false);
  f->Add("tokens", &a.tokens, kI32, {kTokens}, true);
  f->Add("logprobs", &a.logprobs, kF32, {kTokens}, true, false);
}

struct Builder {
  dsopt_op op;
  const char* name;
  void (*build)(Fixture* f);
};
const Builder kBuilders[] = {
    {DSOPT_OP_RMSNORM, "rmsnorm", BuildRmsNorm},
    {DSOPT_OP_LINEAR, "linear", BuildLinear},
    {DSOPT_OP_QKV, "qkv", BuildQkv},
    {DSOPT_OP_ATTENTION, "attention", BuildAttention},
    {DSOPT_OP_GATED_MLP, "gated_mlp", BuildGatedMlp},
    {DSOPT_OP_MOE, "moe", BuildMoe},
    {DSOPT_OP_SAMPLE, "sample", BuildSample},
};

std::unique_ptr<Fixture> Build(Device* device, const Builder& builder) {
  auto fixture = std::make_unique<Fixture>(device, builder.op, builder.name);
  builder.build(fixture.get());
  fixture->PrepareWorkspace();
  return fixture;
}

// Everything that can be wrong with the view of any operand.
void CheckOperand(Fixture* f, Operand* o) {
  const dsopt_tensor good = o->view;
  const std::string here = std::string(f->name) + "." + o->name;
  CAPTURE(here);
  const auto wrong = [&](dsopt_status code, const std::string& text, auto change) {
    change(o->view);
    f->Fails(code, text);
    o->view = good;
  };
  const dsopt_status invalid = DSOPT_E_INVALID_ARGUMENT, unsupported = DSOPT_E_UNSUPPORTED;
  if (o->required) {
    *o->slot = nullptr;
    f->Fails(invalid, here);
    *o->slot = &o->view;
  }
  wrong(invalid, o->name, [](dsopt_tensor& t) { t.struct_size = 0; });
  wrong(invalid, o->name, [](dsopt_tensor& t) { t.struct_size = 5; });
  wrong(unsupported, here, [](dsopt_tensor& t) { t.reserved = 1; });
  wrong(unsupported, here, [](dsopt_tensor& t) { t.dtype = DSOPT_U8; });
  wrong(invalid, here, [](dsopt_tensor& t) { t.dtype = static_cast<dsopt_dtype>(99); });
  wrong(invalid, here, [](dsopt_tensor& t) { t.dtype = DSOPT_DTYPE_DEFAULT; });
  wrong(invalid, here, [](dsopt_tensor& t) { t.ndim = 0; });
  wrong(invalid, here, [](dsopt_tensor& t) { t.ndim = 5; });
  wrong(invalid, here, [](dsopt_tensor& t) { t.ndim = UINT32_MAX; });
  for (uint32_t dim = 0; dim < good.ndim; ++dim) {
    CAPTURE(dim);
    wrong(invalid, here, [dim](dsopt_tensor& t) { t.shape[dim] = 0; });
    wrong(invalid, here, [dim](dsopt_tensor& t) { t.shape[dim] = -7; });
    wrong(invalid, here, [dim](dsopt_tensor& t) { t.shape[dim] = int64_t{1} << 40; });
    // A table of any number of positions is right: then only its overlap with an output, which depends on where the
    // allocator put them, could be wrong.
    const bool free_extent = here == "qkv.rope" && dim == 0;
    if (!free_extent) wrong(kAnyFailure, f->name, [dim](dsopt_tensor& t) { t.shape[dim] = INT32_MAX; });
    wrong(invalid, here, [dim](dsopt_tensor& t) { t.stride[dim] = -t.stride[dim]; });
    if (good.shape[dim] > 1) wrong(invalid, here, [dim](dsopt_tensor& t) { t.stride[dim] = INT64_MAX; });
  }
  wrong(invalid, here, [](dsopt_tensor& t) { t.stride[t.ndim - 1] = 2; });
  wrong(invalid, here, [](dsopt_tensor& t) { t.data = nullptr; });
  wrong(invalid, here, [](dsopt_tensor& t) { t.data = static_cast<char*>(t.data) + 1; });
  wrong(invalid, here, [](dsopt_tensor& t) { t.data = reinterpret_cast<void*>(UINTPTR_MAX - 15); });
  if (!o->output) return;
  if (good.ndim > 1) wrong(invalid, here, [](dsopt_tensor& t) { t.stride[0] = t.shape[1] * t.stride[1] / 2; });
  for (const Operand& other : f->operands) {  // overlap
    if (&other == o) continue;
    CAPTURE(other.name);
    const auto inside = (reinterpret_cast<uintptr_t>(other.view.data) + 15) / 16 * 16;
    wrong(invalid, "overlap", [&](dsopt_tensor& t) { t.data = reinterpret_cast<void*>(inside); });
  }
}

void CheckLaunch(Fixture* f) {
  const dsopt_launch good = f->launch;
  const auto wrong = [&](dsopt_status code, const char* text, auto change) {
    change(f->launch);
    f->Fails(code, text);
    f->launch = good;
  };
  wrong(DSOPT_E_UNSUPPORTED, "flags", [](dsopt_launch& l) { l.flags = 2; });
  wrong(DSOPT_E_INVALID_ARGUMENT, "struct_size", [](dsopt_launch& l) { l.struct_size = 2; });
  if (good.workspace_size > 0) {  // some operators need none on a GPU
    wrong(DSOPT_E_BUFFER_TOO_SMALL, "workspace_size", [](dsopt_launch& l) { --l.workspace_size; });
    wrong(DSOPT_E_INVALID_ARGUMENT, "workspace", [](dsopt_launch& l) { l.workspace = nullptr; });
    wrong(DSOPT_E_INVALID_ARGUMENT, "workspace",
          [](dsopt_launch& l) { l.workspace = static_cast<char*>(l.workspace) + 64; });
    for (const Operand& o : f->operands) {
      const auto address = reinterpret_cast<uintptr_t>(o.view.data) / 256 * 256;
      wrong(DSOPT_E_INVALID_ARGUMENT, "overlap",
            [&](dsopt_launch& l) { l.workspace = reinterpret_cast<void*>(address); });
    }
    CHECK(Call(f->device, f->op, &f->args, nullptr) < 0);
  }
  CHECK(Call(f->device, f->op, nullptr, &f->launch) == DSOPT_E_INVALID_ARGUMENT);
  Device nobody = {f->device->memory, nullptr};
  CHECK(Call(&nobody, f->op, &f->args, &f->launch) == DSOPT_E_INVALID_ARGUMENT);
}

// Numbers of the args structs.
void CheckNumbers(Device* device) {
  const auto wrong = [&](const Builder& builder, dsopt_status code, const char* text, auto change) {
    const std::unique_ptr<Fixture> f = Build(device, builder);
    change(*f);
    f->Fails(code, text);
  };
  const dsopt_status invalid = DSOPT_E_INVALID_ARGUMENT, unsupported = DSOPT_E_UNSUPPORTED;
  for (const Builder& b : kBuilders) {
    wrong(b, invalid, "struct_size", [](Fixture& f) { f.args.linear.struct_size = 3; });
  }
  wrong(kBuilders[0], invalid, "eps", [](Fixture& f) { f.args.rmsnorm.eps = -1.0f; });
  wrong(kBuilders[0], invalid, "eps", [](Fixture& f) { f.args.rmsnorm.eps = NAN; });
  wrong(kBuilders[1], unsupported, "activation",
        [](Fixture& f) { f.args.linear.activation = static_cast<dsopt_activation>(7); });
  wrong(kBuilders[2], unsupported, "interleaved", [](Fixture& f) { f.args.qkv.interleaved = 2; });
  wrong(kBuilders[2], invalid, "positions", [](Fixture& f) { f.args.qkv.positions = nullptr; });
  wrong(kBuilders[2], invalid, "token_slots", [](Fixture& f) { f.args.qkv.token_slots = nullptr; });
  wrong(kBuilders[2], invalid, "rope", [](Fixture& f) { f.Named("rope").view.shape[1] = 7; });
  wrong(kBuilders[2], invalid, "rope", [](Fixture& f) { f.Named("rope").view.shape[1] = 10; });
  wrong(kBuilders[2], invalid, "positions", [](Fixture& f) {
    f.args.qkv.positions =
        reinterpret_cast<const int32_t*>(reinterpret_cast<uintptr_t>(f.args.qkv.positions) + 2);
  });
  wrong(kBuilders[3], unsupported, "flags", [](Fixture& f) { f.args.attention.flags = 8; });
  wrong(kBuilders[3], invalid, "scale", [](Fixture& f) { f.args.attention.scale = -0.5f; });
  wrong(kBuilders[3], invalid, "scale", [](Fixture& f) { f.args.attention.scale = INFINITY; });
  wrong(kBuilders[3], unsupported, "window",
        [](Fixture& f) { f.args.attention.flags = 0, f.args.attention.window = 4; });
  wrong(kBuilders[3], invalid, "window", [](Fixture& f) { f.args.attention.window = UINT32_MAX; });
  wrong(kBuilders[3], invalid, "batch", [](Fixture& f) { f.args.attention.batch = 0; });
  wrong(kBuilders[3], invalid, "batch", [](Fixture& f) { f.args.attention.batch = UINT32_MAX; });
  wrong(kBuilders[3], invalid, "max_pages", [](Fixture& f) { f.args.attention.max_pages = 0; });
  wrong(kBuilders[3], invalid, "max_pages", [](Fixture& f) { f.args.attention.max_pages = INT32_MAX; });
  wrong(kBuilders[3], invalid, "k", [](Fixture& f) { f.args.attention.page_table = nullptr; });
  wrong(kBuilders[3], invalid, "q",
        [](Fixture& f) { f.args.attention.q_offsets = nullptr, f.args.attention.batch = 4; });
  wrong(kBuilders[3], invalid, "heads", [](Fixture& f) {
    for (const char* name : {"k", "v"}) f.Named(name).view.shape[1] = 3;
  });
  wrong(kBuilders[4], unsupported, "activation",
        [](Fixture& f) { f.args.gated_mlp.activation = DSOPT_ACT_NONE; });
  wrong(kBuilders[5], unsupported, "activation", [](Fixture& f) { f.args.moe.activation = DSOPT_ACT_NONE; });
  wrong(kBuilders[5], invalid, "top_k", [](Fixture& f) { f.args.moe.top_k = 0; });
  wrong(kBuilders[5], invalid, "top_k", [](Fixture& f) { f.args.moe.top_k = 5; });
  wrong(kBuilders[5], invalid, "groups", [](Fixture& f) { f.args.moe.groups = 3; });
  wrong(kBuilders[5], invalid, "top_groups", [](Fixture& f) { f.args.moe.groups = 2; });
  wrong(kBuilders[5], invalid, "top_groups", [](Fixture& f) { f.args.moe.top_groups = 1; });
  wrong(kBuilders[5], invalid, "top_k", [](Fixture& f) { f.args.moe.groups = 4, f.args.moe.top_groups = 1; });
  wrong(kBuilders[5], unsupported, "renormalise", [](Fixture& f) { f.args.moe.renormalise = 2; });
  wrong(kBuilders[5], invalid, "route_scale", [](Fixture& f) { f.args.moe.route_scale = NAN; });
  wrong(kBuilders[5], invalid, "router",
        [](Fixture& f) { f.args.moe.router = nullptr, f.args.moe.renormalise = 1; });
  wrong(kBuilders[5], invalid, "expert_ids",
        [](Fixture& f) { f.args.moe.router = nullptr, f.args.moe.expert_ids = nullptr; });
  wrong(kBuilders[5], invalid, "expert_weights",
        [](Fixture& f) { f.args.moe.router = nullptr, f.args.moe.expert_weights = nullptr; });
  wrong(kBuilders[5], invalid, "shared_down", [](Fixture& f) { f.args.moe.shared_down = nullptr; });
  wrong(kBuilders[5], invalid, "shared_gate_up", [](Fixture& f) { f.args.moe.shared_gate_up = nullptr; });
  wrong(kBuilders[6], invalid, "params", [](Fixture& f) { f.args.sample.params = nullptr; });
  wrong(kBuilders[6], invalid, "params_count", [](Fixture& f) { f.args.sample.params_count = 2; });
  wrong(kBuilders[6], invalid, "history", [](Fixture& f) { f.args.sample.history = nullptr; });
  wrong(kBuilders[6], invalid, "history", [](Fixture& f) { f.args.sample.history_counts = nullptr; });
  for (float dsopt_sampling::*member :
       {&dsopt_sampling::temperature, &dsopt_sampling::top_p, &dsopt_sampling::min_p,
        &dsopt_sampling::typical_p, &dsopt_sampling::top_n_sigma, &dsopt_sampling::repeat_penalty,
        &dsopt_sampling::presence_penalty, &dsopt_sampling::frequency_penalty}) {
    for (const float value : {-2e6f, NAN, INFINITY}) {
      dsopt_sampling params = Greedy();
      params.*member = value;
      wrong(kBuilders[6], invalid, "params", [&](Fixture& f) { f.args.sample.params = &params; });
    }
  }
}

// What lies inside index arrays, where the library can read it.
void CheckIndices(Device* device) {
  const auto wrong = [&](const Builder& builder, const char* text, auto change) {
    const std::unique_ptr<Fixture> f = Build(device, builder);
    change(*f);
    f->Fails(DSOPT_E_INVALID_ARGUMENT, text);
  };
  for (const int32_t bad : {-1, 10, INT32_MAX, INT32_MIN}) {
    wrong(kBuilders[2], "positions", [bad](Fixture& f) {
      f.args.qkv.positions = f.Ints({0, 1, 2, 3, 4, bad});
    });
  }
  for (const int32_t bad : {-2, 48, INT32_MAX, INT32_MIN}) {
    wrong(kBuilders[2], "token_slots", [bad](Fixture& f) {
      f.args.qkv.token_slots = f.Ints({0, 1, bad, 3, 4, 5});
    });
  }
  for (const std::vector<int32_t>& bad :
       {std::vector<int32_t>{1, 2, 6}, {0, 7, 6}, {0, 3, 2}, {0, 2, 7}, {0, -1, 6}}) {
    wrong(kBuilders[3], "q_offsets", [&](Fixture& f) { f.args.attention.q_offsets = f.Ints(bad); });
  }
  for (const std::vector<int32_t>& bad : {std::vector<int32_t>{33, 9}, {20, -1}, {INT32_MAX, 3}}) {
    wrong(kBuilders[3], "kv_lengths", [&](Fixture& f) { f.args.attention.kv_lengths = f.Ints(bad); });
  }
  for (const std::vector<int32_t>& bad :
       {std::vector<int32_t>{4, -1, 0, -1}, {5, 2, 0, -1}, {4, 2, INT32_MIN, -1}}) {
    wrong(kBuilders[3], "page_table", [&](Fixture& f) { f.args.attention.page_table = f.Ints(bad); });
  }
  wrong(kBuilders[6], "history", [](Fixture& f) { f.Named("history").tensor->Fill([] { return 40.0; }); });
  wrong(kBuilders[6], "history", [](Fixture& f) { f.Named("history").tensor->Fill([] { return -2.0; }); });
  wrong(kBuilders[6], "history_counts",
        [](Fixture& f) { f.Named("history_counts").tensor->Fill([] { return -1.0; }); });
  const std::unique_ptr<Fixture> f = Build(device, kBuilders[5]);
  f->args.moe.router = nullptr;
  for (const double bad : {4.0, -1.0, 1e9}) {
    f->Named("expert_ids").tensor->Fill([bad] { return bad; });
    CHECK(Call(device, DSOPT_OP_MOE, &f->args, &f->launch) == DSOPT_E_INVALID_ARGUMENT);
    CHECK(std::string(dsopt_last_error()).find("moe.expert_ids") != std::string::npos);
  }
}

}  // namespace

void CheckWrongUse(Device* device) {
  for (const Builder& builder : kBuilders) {
    CAPTURE(builder.name);
    std::unique_ptr<Fixture> f = Build(device, builder);
    for (Operand& o : f->operands) CheckOperand(f.get(), &o);
    CheckLaunch(f.get());
    const dsopt_status status = device->memory->Run([&] { return Call(device, f->op, &f->args, &f->launch); });
    INFO(dsopt_last_error());
    CHECK(status == DSOPT_OK);  // all of it was about a call that works
  }
  CheckNumbers(device);
  if (device->memory->on_host()) CheckIndices(device);
  size_t bytes = 0;
  CHECK(dsopt_op_workspace(device->ops, static_cast<dsopt_op>(99), &bytes, &bytes, nullptr) ==
        DSOPT_E_UNSUPPORTED);
  CHECK(dsopt_op_workspace(device->ops, DSOPT_OP_LINEAR, nullptr, &bytes, nullptr) == DSOPT_E_INVALID_ARGUMENT);
}

}  // namespace dsopt::ops_test
