// hostile_body.cc - descriptions, weights and batches that make no sense: each is refused with a message, and
// nothing of it is left.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "bodies.h"

namespace dsopt::kernel_test {

void CheckHostileInput(const Target& target) {
  Random random(Seed() + 7);
  INFO("seed " << Seed() << ", " << target.Name());
  TestDevice device(target);
  const dsopt_backend_api* api = device.api;
  TestModel model(&device, SmallShape(), &random);
  TestProgram program(&model, {}, &random);
  const auto expected = program.Run({{0, {7, 8, 9}}});

  const auto refused = [&](dsopt_status status, const char* what) {
    INFO(what);
    const std::string message = device.host.TakeError();
    CHECK(status < 0);
    CHECK(message.size() > 10);
    CHECK(message.find('\n') == std::string::npos);
  };

  // Programs.
  const dsopt_program_desc good = MakeDesc(&model, {});
  const auto program_with = [&](const char* what,
                                const std::function<void(dsopt_program_desc*, dsopt_block*)>& change) {
    dsopt_program_desc d = good;
    std::vector<dsopt_block> blocks(good.blocks, good.blocks + good.block_count);
    d.blocks = blocks.data();
    change(&d, blocks.data());
    dsopt_be_program* handle = nullptr;
    const int64_t live = device.host.live();
    refused(api->program_create(device.device, &d, &handle), what);
    CHECK(handle == nullptr);
    CHECK(device.host.live() == live);
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  program_with("no size", [](dsopt_program_desc* d, dsopt_block*) { d->struct_size = 0; });
  program_with("precision", [](dsopt_program_desc* d, dsopt_block*) { d->precision = 2; });
  program_with("no blocks", [](dsopt_program_desc* d, dsopt_block*) { d->block_count = 0; });
  program_with("NULL blocks", [](dsopt_program_desc* d, dsopt_block*) { d->blocks = nullptr; });
  program_with("no embed", [](dsopt_program_desc*, dsopt_block* b) { b[0].kind = DSOPT_BLOCK_MLP; });
  program_with("two heads", [](dsopt_program_desc*, dsopt_block* b) { b[1].kind = DSOPT_BLOCK_HEAD; });
  program_with("kind",
               [](dsopt_program_desc*, dsopt_block* b) { b[1].kind = static_cast<dsopt_block_kind>(77); });
  program_with("hidden", [](dsopt_program_desc* d, dsopt_block*) { d->hidden = 65; });
  program_with("hidden 0", [](dsopt_program_desc* d, dsopt_block*) { d->hidden = 0; });
  program_with("vocab", [](dsopt_program_desc* d, dsopt_block*) { d->vocab = UINT32_MAX; });
  program_with("rows", [](dsopt_program_desc* d, dsopt_block*) { d->max_rows = UINT32_MAX; });
  program_with("seqs", [](dsopt_program_desc* d, dsopt_block*) { d->max_seqs = 0; });
  program_with("logit rows", [](dsopt_program_desc* d, dsopt_block*) { d->max_logit_rows = UINT32_MAX; });
  program_with("pages", [](dsopt_program_desc* d, dsopt_block*) { d->page_count = UINT32_MAX; });
  program_with("host pages", [](dsopt_program_desc* d, dsopt_block*) { d->host_pages = d->page_count + 1; });
  program_with("many host pages", [](dsopt_program_desc* d, dsopt_block*) { d->host_pages = UINT32_MAX; });
  program_with("unknown flags", [](dsopt_program_desc* d, dsopt_block*) { d->flags = 4; });
  program_with("all pages", [](dsopt_program_desc* d, dsopt_block*) {
    d->page_count = 1 << 30;
    d->page_bytes = uint64_t{1} << 39;
  });
  program_with("page bytes", [](dsopt_program_desc* d, dsopt_block*) { d->page_bytes = 100; });
  program_with("page too small", [](dsopt_program_desc* d, dsopt_block*) { d->page_bytes = 256; });
  program_with("page tokens", [](dsopt_program_desc* d, dsopt_block*) { d->page_tokens = 32; });
  program_with("kv dtype", [](dsopt_program_desc* d, dsopt_block*) { d->kv_dtype = DSOPT_U8; });
  program_with("ropes", [](dsopt_program_desc* d, dsopt_block*) { d->ropes = nullptr; });
  program_with("adjust", [](dsopt_program_desc* d, dsopt_block*) { d->max_adjust = UINT32_MAX; });
  program_with("NULL weight", [](dsopt_program_desc*, dsopt_block* b) { b[1].u.attention.qkv = nullptr; });
  program_with("wrong weight",
               [](dsopt_program_desc*, dsopt_block* b) { b[1].u.attention.qkv = b[1].u.attention.out; });
  program_with("heads", [](dsopt_program_desc*, dsopt_block* b) { b[1].u.attention.q_heads = 3; });
  program_with("no heads", [](dsopt_program_desc*, dsopt_block* b) { b[1].u.attention.kv_heads = 0; });
  program_with("huge heads", [](dsopt_program_desc*, dsopt_block* b) {
    b[1].u.attention.q_heads = b[1].u.attention.kv_heads = UINT32_MAX;
  });
  program_with("head dim", [](dsopt_program_desc*, dsopt_block* b) { b[1].u.attention.head_dim = 0; });
  program_with("rope", [](dsopt_program_desc*, dsopt_block* b) { b[1].u.attention.rope = 9; });
  program_with("cache offset",
               [](dsopt_program_desc*, dsopt_block* b) { b[1].u.attention.cache_offset = UINT64_MAX - 15; });
  program_with("eps", [nan](dsopt_program_desc*, dsopt_block* b) { b[1].u.attention.norm_eps = nan; });
  program_with("NULL frequencies", [](dsopt_program_desc* d, dsopt_block*) {
    static dsopt_rope rope;
    rope = {32, 0, 1.0f, 0, nullptr};
    d->ropes = &rope;
    d->rope_count = 1;
  });
  program_with("many ropes", [](dsopt_program_desc* d, dsopt_block*) { d->rope_count = UINT32_MAX; });
  program_with("head weight", [](dsopt_program_desc*, dsopt_block* b) { b[3].u.head.weight = nullptr; });
  program_with("head norm", [](dsopt_program_desc*, dsopt_block* b) { b[3].u.head.norm = b[3].u.head.weight; });
  program_with("table", [](dsopt_program_desc*, dsopt_block* b) { b[0].u.embed.table = nullptr; });
  program_with("scale", [nan](dsopt_program_desc*, dsopt_block* b) { b[0].u.embed.scale = nan; });
  program_with("inner", [](dsopt_program_desc*, dsopt_block* b) { b[2].u.mlp.inner = 41; });
  program_with("activation", [](dsopt_program_desc*, dsopt_block* b) {
    b[2].u.mlp.activation = static_cast<dsopt_activation>(5);
  });
  program_with("head", [](dsopt_program_desc*, dsopt_block* b) { b[3].u.head.weight = b[0].u.embed.table; });

  // Weights.
  const auto weight_with = [&](const char* what, const dsopt_weight_desc& d) {
    dsopt_be_weight* handle = nullptr;
    uint64_t bytes = 0;
    refused(api->weight_create(device.device, &d, &handle), what);
    CHECK(handle == nullptr);
    refused(api->weight_bytes(device.device, &d, &bytes), what);
  };
  weight_with("dtype", PlainDesc(DSOPT_WEIGHT_MATRIX, DSOPT_U8, 1, 4, 4, "w"));
  weight_with("kind", PlainDesc(static_cast<dsopt_weight_kind>(99), DSOPT_F32, 1, 4, 4, "w"));
  weight_with("zero", PlainDesc(DSOPT_WEIGHT_MATRIX, DSOPT_F32, 1, 0, 4, "w"));
  weight_with("huge", PlainDesc(DSOPT_WEIGHT_MATRIX, DSOPT_F32, UINT64_MAX, UINT64_MAX, 4, nullptr));
  weight_with("large", PlainDesc(DSOPT_WEIGHT_MATRIX, DSOPT_F32, 1 << 20, 1 << 20, 1 << 20, "w"));
  weight_with("vector", PlainDesc(DSOPT_WEIGHT_VECTOR, DSOPT_F32, 1, 2, 4, "w"));
  weight_with("gate", PlainDesc(DSOPT_WEIGHT_GATE_UP, DSOPT_F32, 1, 3, 4, "w"));
  dsopt_weight_desc without_size = PlainDesc(DSOPT_WEIGHT_MATRIX, DSOPT_F32, 1, 4, 4, "w");
  without_size.struct_size = 0;
  weight_with("no size", without_size);
  TestWeight* norm = model.weights[1].at("norm");
  float value = 0.0f;
  refused(api->weight_write(norm->handle, 64, 1, &value), "write behind the end");
  refused(api->weight_write(norm->handle, UINT64_MAX, 2, &value), "write around the end");
  refused(api->weight_write(norm->handle, 0, 1, nullptr), "write of NULL");
  refused(api->weight_fill(norm->handle, 1, nan, 1.0f), "fill with NaN");
  refused(api->weight_write_scales(norm->handle, 0, 1, &value, nullptr), "scales of a plain weight");

  // Batches.
  const auto batch_with =
      [&](const char* what,
          const std::function<void(dsopt_batch*, int32_t*, int32_t*, int32_t*, int32_t*, dsopt_sample_row*)>&
              change) {
        int32_t tokens[] = {1, 2, 3}, positions[] = {0, 1, 0}, seq[] = {0, 0, 1};
        std::vector<int32_t> pages(2 * good.max_pages_per_seq, -1);
        pages[0] = 1;
        pages[good.max_pages_per_seq] = 2;
        dsopt_sample_row sample[2] = {};
        sample[0].row = 1;
        sample[1].row = 2;
        int32_t list_tokens[] = {1, 2};
        float bias[] = {0.0f, 1.0f};
        uint32_t counts[] = {1, 1};
        dsopt_batch b = {
            sizeof(b), 3, 2, 2,      tokens,      positions, seq,         pages.data(), good.max_pages_per_seq,
            2,         2, 0, sample, list_tokens, bias,      list_tokens, counts};
        change(&b, tokens, positions, seq, pages.data(), sample);
        refused(api->program_begin(program.handle, &b), what);
      };
  using Sample = dsopt_sample_row;
  const auto with_sample = [&](const char* what, const std::function<void(Sample*)>& change) {
    batch_with(what, [&](dsopt_batch*, int32_t*, int32_t*, int32_t*, int32_t*, Sample* s) { change(s); });
  };
#define BATCH_WITH(what, ...)                                                                                  \
  batch_with(                                                                                                  \
      what, [](dsopt_batch* b, int32_t* tokens, int32_t* positions, int32_t* seq, int32_t* pages, Sample* s) { \
        (void)b, (void)tokens, (void)positions, (void)seq, (void)pages, (void)s;                               \
        __VA_ARGS__;                                                                                           \
      })
  BATCH_WITH("no size", b->struct_size = 0);
  BATCH_WITH("no rows", b->rows = 0);
  BATCH_WITH("rows", b->rows = 1000);
  BATCH_WITH("seqs", b->seqs = 9);
  BATCH_WITH("a sequence without rows", b->seqs = 3);
  BATCH_WITH("too many sequences in rows", b->seqs = 1);
  BATCH_WITH("logit rows", b->logit_rows = 1000);
  BATCH_WITH("NULL tokens", b->tokens = nullptr);
  BATCH_WITH("NULL positions", b->positions = nullptr);
  BATCH_WITH("NULL sequences", b->row_seq = nullptr);
  BATCH_WITH("NULL page table", b->page_table = nullptr);
  BATCH_WITH("NULL history", b->history_counts = nullptr);
  BATCH_WITH("NULL sample", b->sample = nullptr);
  BATCH_WITH("NULL adjust", b->adjust_bias = nullptr);
  BATCH_WITH("adjust count", b->adjust_count = 65);
  BATCH_WITH("history count", b->history_count = UINT32_MAX);
  BATCH_WITH("token", tokens[1] = 50);
  BATCH_WITH("negative token", tokens[1] = -1);
  BATCH_WITH("position", positions[1] = 2);
  BATCH_WITH("negative position", positions[0] = -1);
  BATCH_WITH("huge position", positions[2] = INT32_MAX);
  BATCH_WITH("sequence order", seq[0] = 1);
  BATCH_WITH("negative sequence", seq[0] = -1);
  BATCH_WITH("page", pages[0] = 64);
  BATCH_WITH("no page", pages[0] = -1);
  BATCH_WITH("page of two", pages[0] = 2);
  BATCH_WITH("page table", b->page_table_stride = 0);
  BATCH_WITH("adjusted token", const_cast<int32_t*>(b->adjust_tokens)[0] = 50);
  with_sample("row", [](Sample* s) { s[1].row = 3; });
  with_sample("row order", [](Sample* s) { s[1].row = 0; });
  with_sample("mode", [](Sample* s) { s[0].mode = static_cast<dsopt_sample_mode>(2); });
  with_sample("target", [](Sample* s) {
    s[0].mode = DSOPT_SCORE;
    s[0].target = 50;
  });
  with_sample("top logprobs", [](Sample* s) { s[0].top_logprobs = 21; });
  with_sample("adjust range", [](Sample* s) {
    s[0].adjust_first = UINT32_MAX;
    s[0].adjust_count = 2;
  });
  with_sample("history range", [](Sample* s) { s[0].history_count = 3; });
  with_sample("temperature", [nan](Sample* s) { s[0].temperature = nan; });
  with_sample("negative temperature", [](Sample* s) { s[0].temperature = -1.0f; });
  with_sample("penalty", [](Sample* s) { s[0].presence_penalty = INFINITY; });
#undef BATCH_WITH

  // Calls with NULL.
  refused(api->program_create(device.device, nullptr, nullptr), "create of NULL");
  refused(api->program_plan(device.device, &good, nullptr), "plan into NULL");
  refused(api->program_begin(program.handle, nullptr), "begin of NULL");
  refused(api->program_result(program.handle, nullptr), "result into NULL");
  refused(api->program_read_logits(program.handle, 0, nullptr), "logits into NULL");
  refused(api->program_read_page(program.handle, 0, nullptr), "page into NULL");
  refused(api->program_write_page(program.handle, 0, nullptr), "page from NULL");
  refused(api->measure_read(device.device, 0, nullptr), "measurement into NULL");

  // Not a trace of all that is left.
  const auto found = program.Run({{3, {7, 8, 9}}});
  for (int i = 0; i < 3; ++i)
    CHECK(std::memcmp(found[i].data(), expected[i].data(), SmallShape().vocab * 4) == 0);

  // A cap in bytes.
  dsopt_device_options options = {};
  options.struct_size = sizeof(options);
  options.host = device.host.api();
  options.threads = 1;
  options.max_bytes = 1 << 20;
  dsopt_be_device* capped = nullptr;
  REQUIRE(api->device_open(target.index, &options, &capped) == DSOPT_OK);
  dsopt_be_weight* handle = nullptr;
  dsopt_weight_desc large = PlainDesc(DSOPT_WEIGHT_MATRIX, DSOPT_F32, 1, 1024, 512, "large");
  CHECK(api->weight_create(capped, &large, &handle) == DSOPT_E_DEVICE_MEMORY);
  CHECK(device.host.TakeError().find("large") != std::string::npos);
  large.rows = 256;
  REQUIRE(api->weight_create(capped, &large, &handle) == DSOPT_OK);
  api->weight_destroy(handle);
  REQUIRE(api->weight_create(capped, &large, &handle) == DSOPT_OK);
  api->weight_destroy(handle);
  api->device_close(capped);
  options.variant = "no such variant";
  CHECK(api->device_open(target.index, &options, &capped) < 0);
  CHECK(capped == nullptr);
  CHECK(device.host.TakeError().find("no such variant") != std::string::npos);
}

}  // namespace dsopt::kernel_test
