#include "tests/unit/runtime/fake_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <utility>

// Opaque types of backend.h; the fake needs no state for a device or a weight beyond their existence.
struct dsopt_be_device {
  const dsopt_host_api* host;
};
struct dsopt_be_weight {
  int unused;
};
struct dsopt_be_program {
  const dsopt_host_api* host;
  dsopt_program_desc desc;
  std::vector<uint8_t> pages;
  // the batch in flight
  bool in_flight = false, done = false;
  uint32_t advances_left = 0;
  uint32_t seqs = 0, stride = 0;
  std::vector<int32_t> tokens, positions, row_seq, table;
  std::vector<dsopt_sample_row> samples;
  std::vector<int32_t> adjust_tokens;
  std::vector<float> adjust_bias;
  // results
  std::vector<int32_t> result_tokens, top_tokens;
  std::vector<float> logprobs, top_logprobs;
  std::vector<uint64_t> hashes;
};

namespace dsopt::testing {

FakeDevice g_fake;

namespace {

constexpr uint64_t kSeed = 0x1234567;

uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t x = (a ^ (b + 0x9E3779B97F4A7C15u + (a << 6) + (a >> 2))) * 0xBF58476D1CE4E5B9u;
  x ^= x >> 29;
  return x * 0x94D049BB133111EBu;
}

uint64_t Cell(int32_t token, int32_t position) {
  return Mix(static_cast<uint64_t>(token) + 1, static_cast<uint64_t>(position) + 1);
}

float Logit(uint64_t hash, uint32_t token) { return static_cast<float>(Mix(hash, token) >> 40); }

int32_t Argmax(uint64_t hash, uint32_t vocab, const std::map<int32_t, float>& bias) {
  int32_t best = 0;
  float best_logit = -INFINITY;
  for (uint32_t t = 0; t < vocab; ++t) {
    const auto found = bias.find(static_cast<int32_t>(t));
    const float logit = Logit(hash, t) + (found != bias.end() ? found->second : 0.0f);
    if (logit > best_logit) best = static_cast<int32_t>(t), best_logit = logit;
  }
  return best;
}

float LogprobOf(uint64_t hash, int32_t token) {
  return -static_cast<float>(Mix(hash, static_cast<uint64_t>(token)) % 1000) / 100.0f;
}

uint64_t HashOf(std::span<const int32_t> tokens) {
  uint64_t hash = kSeed;
  for (size_t i = 0; i < tokens.size(); ++i) hash = Mix(hash, Cell(tokens[i], static_cast<int32_t>(i)));
  return hash;
}

void Violation(std::string text) { g_fake.violations.push_back(std::move(text)); }

dsopt_status Fail(const dsopt_host_api* host, dsopt_status* code) {
  const dsopt_status failure = std::exchange(*code, DSOPT_OK);
  host->set_error(host->context, "the fake was told to fail");
  return failure;
}

uint8_t* CellAt(dsopt_be_program* p, uint32_t seq, int32_t position) {
  const uint32_t page_tokens = p->desc.page_tokens;
  const int32_t page = p->table[seq * p->stride + static_cast<uint32_t>(position) / page_tokens];
  if (page < 0 || static_cast<uint32_t>(page) >= p->desc.page_count) {
    Violation("page table: no page for a position of the batch");
    static uint8_t nowhere[8];
    return nowhere;
  }
  return &p->pages[static_cast<size_t>(page) * p->desc.page_bytes +
                   static_cast<uint32_t>(position) % page_tokens * sizeof(uint64_t)];
}

void CheckBatch(const dsopt_be_program& p, const dsopt_batch& b) {
  if (b.rows == 0 || b.rows > p.desc.max_rows) Violation("rows of a batch");
  if (b.seqs == 0 || b.seqs > p.desc.max_seqs) Violation("seqs of a batch");
  if (b.logit_rows > p.desc.max_logit_rows) Violation("logit rows of a batch");
  if (b.page_table_stride > p.desc.max_pages_per_seq) Violation("pages per sequence");
  if (b.adjust_count > p.desc.max_adjust || b.history_count > p.desc.max_history)
    Violation("adjust or history");
  std::map<int32_t, int32_t> writer;  // page -> seq
  for (uint32_t i = 0; i < b.rows; ++i) {
    if (b.tokens[i] < 0 || static_cast<uint32_t>(b.tokens[i]) >= p.desc.vocab) Violation("token of a row");
    if (i > 0 && b.row_seq[i] == b.row_seq[i - 1] && b.positions[i] != b.positions[i - 1] + 1) {
      Violation("positions of a sequence are not consecutive");
    }
    if (i > 0 && b.row_seq[i] != b.row_seq[i - 1] && b.row_seq[i] != b.row_seq[i - 1] + 1) {
      Violation("sequences are not in order");
    }
    const int32_t page = b.page_table[static_cast<uint32_t>(b.row_seq[i]) * b.page_table_stride +
                                      static_cast<uint32_t>(b.positions[i]) / p.desc.page_tokens];
    const auto [found, added] = writer.emplace(page, b.row_seq[i]);
    if (!added && found->second != b.row_seq[i]) Violation("two sequences write one page");
  }
  for (uint32_t seq = 0; seq < b.seqs; ++seq) {
    for (uint32_t i = 0; i < b.page_table_stride; ++i) {
      const int32_t page = b.page_table[seq * b.page_table_stride + i];
      if (writer.count(page) != 0 && writer[page] != static_cast<int32_t>(seq)) {
        Violation("a page that one sequence writes is read by another");
      }
    }
  }
  for (uint32_t i = 1; i < b.logit_rows; ++i) {
    if (b.sample[i].row <= b.sample[i - 1].row) Violation("sample rows are not ascending");
  }
}

// ---- table --------------------------------------------------------------------------------------------------

uint32_t DeviceCount() { return 1; }
dsopt_status DeviceInfo(uint32_t, dsopt_device_info* info) {
  info->kind = g_fake.kind;
  info->memory_total = g_fake.memory_total;
  info->memory_free = g_fake.memory_total - g_fake.memory_used;
  info->preferred_rows = g_fake.preferred_rows;
  std::strcpy(info->id, g_fake.kind == DSOPT_DEVICE_CPU ? "cpu" : "cuda:0");
  std::strcpy(info->name, "fake");
  return DSOPT_OK;
}
dsopt_status DeviceOpen(uint32_t, const dsopt_device_options* options, dsopt_be_device** out) {
  g_fake.last_host = options->host;
  ++g_fake.open_devices;
  *out = new dsopt_be_device{options->host};
  return DSOPT_OK;
}
void DeviceClose(dsopt_be_device* device) {
  if (device != nullptr) --g_fake.open_devices;
  delete device;
}
const char* DeviceReport(dsopt_be_device*) { return "hash: fake"; }
dsopt_status WeightBytes(dsopt_be_device*, const dsopt_weight_desc*, uint64_t* bytes) {
  *bytes = 64;
  return DSOPT_OK;
}
dsopt_status WeightCreate(dsopt_be_device*, const dsopt_weight_desc*, dsopt_be_weight** out) {
  *out = new dsopt_be_weight{0};
  return DSOPT_OK;
}
dsopt_status WeightWrite(dsopt_be_weight*, uint64_t, uint64_t, const void*) { return DSOPT_OK; }
dsopt_status WeightFill(dsopt_be_weight*, uint64_t, float, float) { return DSOPT_OK; }
dsopt_status WeightFinish(dsopt_be_device*) { return DSOPT_OK; }
void WeightDestroy(dsopt_be_weight* weight) { delete weight; }

dsopt_status ProgramPlan(dsopt_be_device*, const dsopt_program_desc* desc, dsopt_program_memory* memory) {
  if (desc->host_pages > desc->page_count) Violation("host pages");
  const uint32_t host_pages = g_fake.knows_host_pages ? desc->host_pages : 0;
  memory->cache_bytes = (desc->page_count - host_pages) * desc->page_bytes;
  memory->host_cache_bytes = host_pages * desc->page_bytes;
  memory->workspace_bytes = 1000;
  memory->host_bytes = 10;
  return DSOPT_OK;
}
dsopt_status ProgramCreate(dsopt_be_device* device, const dsopt_program_desc* desc, dsopt_be_program** out) {
  auto program = std::make_unique<dsopt_be_program>();
  program->host = device->host;
  program->desc = *desc;
  program->pages.resize(desc->page_count * desc->page_bytes, 0xEE);
  g_fake.page_count = desc->page_count;
  g_fake.host_pages = desc->host_pages;
  ++g_fake.programs;
  *out = program.release();
  return DSOPT_OK;
}
void ProgramDestroy(dsopt_be_program* program) {
  if (program != nullptr) --g_fake.programs;
  delete program;
}

dsopt_status ProgramBegin(dsopt_be_program* p, const dsopt_batch* b) {
  if (g_fake.fail_begin != DSOPT_OK) return Fail(p->host, &g_fake.fail_begin);
  if (p->in_flight) Violation("begin while a batch is in flight");
  CheckBatch(*p, *b);
  ++g_fake.batches;
  g_fake.largest_batch_rows = std::max(g_fake.largest_batch_rows, b->rows);
  g_fake.largest_batch_seqs = std::max(g_fake.largest_batch_seqs, b->seqs);
  p->in_flight = true;
  p->done = false;
  p->advances_left = g_fake.advances_per_batch;
  p->seqs = b->seqs;
  p->stride = b->page_table_stride;
  p->tokens.assign(b->tokens, b->tokens + b->rows);
  p->positions.assign(b->positions, b->positions + b->rows);
  p->row_seq.assign(b->row_seq, b->row_seq + b->rows);
  p->table.assign(b->page_table, b->page_table + b->seqs * b->page_table_stride);
  p->samples.assign(b->sample, b->sample + b->logit_rows);
  p->adjust_tokens.assign(b->adjust_tokens, b->adjust_tokens + b->adjust_count);
  p->adjust_bias.assign(b->adjust_bias, b->adjust_bias + b->adjust_count);
  for (uint32_t i = 0; i < b->rows; ++i) {  // undefined until the batch is done
    std::memset(CellAt(p, static_cast<uint32_t>(p->row_seq[i]), p->positions[i]), 0xDD, 8);
  }
  return DSOPT_OK;
}

void Finish(dsopt_be_program* p) {
  for (size_t i = 0; i < p->tokens.size(); ++i) {
    const uint64_t cell = Cell(p->tokens[i], p->positions[i]);
    std::memcpy(CellAt(p, static_cast<uint32_t>(p->row_seq[i]), p->positions[i]), &cell, 8);
  }
  const size_t count = p->samples.size();
  p->result_tokens.assign(count, 0);
  p->logprobs.assign(count, 0);
  p->top_tokens.assign(count * DSOPT_MAX_TOP_LOGPROBS, 0);
  p->top_logprobs.assign(count * DSOPT_MAX_TOP_LOGPROBS, 0);
  p->hashes.assign(count, 0);
  for (size_t i = 0; i < count; ++i) {
    const dsopt_sample_row& sample = p->samples[i];
    const size_t row = static_cast<size_t>(sample.row);
    uint64_t hash = kSeed;
    for (int32_t position = 0; position <= p->positions[row]; ++position) {
      uint64_t cell;
      std::memcpy(&cell, CellAt(p, static_cast<uint32_t>(p->row_seq[row]), position), 8);
      hash = Mix(hash, cell);
    }
    std::map<int32_t, float> bias;
    for (uint32_t j = 0; j < sample.adjust_count; ++j) {
      bias[p->adjust_tokens[sample.adjust_first + j]] += p->adjust_bias[sample.adjust_first + j];
    }
    int32_t token = sample.target;
    if (sample.mode == DSOPT_SAMPLE) {
      const uint64_t key = sample.temperature > 0 ? Mix(Mix(hash, sample.seed), sample.counter) : hash;
      token = Argmax(key, p->desc.vocab, bias);
    }
    p->hashes[i] = hash;
    p->result_tokens[i] = token;
    p->logprobs[i] = LogprobOf(hash, token);
    for (uint32_t j = 0; j < sample.top_logprobs; ++j) {
      p->top_tokens[i * DSOPT_MAX_TOP_LOGPROBS + j] = static_cast<int32_t>(j);
      p->top_logprobs[i * DSOPT_MAX_TOP_LOGPROBS + j] = -static_cast<float>(j);
    }
  }
  p->done = true;
}

dsopt_status ProgramAdvance(dsopt_be_program* p, uint64_t, uint64_t* wait_us) {
  if (!p->in_flight) Violation("advance without a batch");
  if (g_fake.fail_advance != DSOPT_OK) {
    p->in_flight = false;
    return Fail(p->host, &g_fake.fail_advance);
  }
  if (p->advances_left > 1) {
    --p->advances_left;
    *wait_us = 50;
    return DSOPT_PENDING;
  }
  Finish(p);
  p->in_flight = false;
  *wait_us = 0;
  return DSOPT_OK;
}

dsopt_status ProgramResult(dsopt_be_program* p, dsopt_batch_result* result) {
  if (!p->done) Violation("result of an unfinished batch");
  result->logit_rows = static_cast<uint32_t>(p->samples.size());
  result->tokens = p->result_tokens.data();
  result->logprobs = p->logprobs.data();
  result->top_tokens = p->top_tokens.data();
  result->top_logprobs = p->top_logprobs.data();
  result->device_ns = 1000000;
  result->replayed = g_fake.replays && p->row_seq.size() == 1 ? 1 : 0;
  return DSOPT_OK;
}
dsopt_status ProgramCancel(dsopt_be_program* p) {
  ++g_fake.cancels;
  p->in_flight = false;
  return DSOPT_OK;
}
dsopt_status ProgramReadLogits(dsopt_be_program* p, uint32_t index, float* dst) {
  if (p->in_flight) Violation("logits while a batch is in flight");
  for (uint32_t t = 0; t < p->desc.vocab; ++t) dst[t] = Logit(p->hashes[index], t);
  return DSOPT_OK;
}
uint8_t* PageAt(dsopt_be_program* p, uint32_t page) {
  if (p->in_flight) Violation("page access while a batch is in flight");
  return &p->pages[static_cast<size_t>(page) * p->desc.page_bytes];
}
dsopt_status ProgramCopyPage(dsopt_be_program* p, uint32_t dst, uint32_t src) {
  if (g_fake.fail_copy != DSOPT_OK) return Fail(p->host, &g_fake.fail_copy);
  ++g_fake.copies;
  std::memcpy(PageAt(p, dst), PageAt(p, src), p->desc.page_bytes);
  return DSOPT_OK;
}
dsopt_status ProgramReadPage(dsopt_be_program* p, uint32_t page, void* dst) {
  std::memcpy(dst, PageAt(p, page), p->desc.page_bytes);
  return DSOPT_OK;
}
dsopt_status ProgramWritePage(dsopt_be_program* p, uint32_t page, const void* src) {
  if (g_fake.fail_write != DSOPT_OK) return Fail(p->host, &g_fake.fail_write);
  std::memcpy(PageAt(p, page), src, p->desc.page_bytes);
  return DSOPT_OK;
}
dsopt_status MeasureRead(dsopt_be_device*, uint64_t, double* rate) {
  *rate = 1;
  return DSOPT_OK;
}

constexpr dsopt_backend_api kApi = {sizeof(dsopt_backend_api),
                                    DSOPT_BACKEND_ABI,
                                    "fake",
                                    "test",
                                    DeviceCount,
                                    DeviceInfo,
                                    DeviceOpen,
                                    DeviceClose,
                                    DeviceReport,
                                    WeightBytes,
                                    WeightCreate,
                                    WeightWrite,
                                    WeightFill,
                                    WeightFinish,
                                    WeightDestroy,
                                    ProgramPlan,
                                    ProgramCreate,
                                    ProgramDestroy,
                                    ProgramBegin,
                                    ProgramAdvance,
                                    ProgramResult,
                                    ProgramCancel,
                                    ProgramReadLogits,
                                    ProgramCopyPage,
                                    ProgramReadPage,
                                    ProgramWritePage,
                                    MeasureRead,
                                    nullptr,  // no scales, no operators
                                    nullptr,
                                    nullptr,
                                    nullptr};

}  // namespace

int32_t FakeNextToken(std::span<const int32_t> tokens, uint32_t vocab) {
  return Argmax(HashOf(tokens), vocab, {});
}
float FakeLogprob(std::span<const int32_t> before, int32_t token) { return LogprobOf(HashOf(before), token); }

}  // namespace dsopt::testing

extern "C" dsopt_status dsopt_cpu_backend_entry(const dsopt_host_api*, uint32_t* abi,
                                                const dsopt_backend_api** out) {
  *abi = DSOPT_BACKEND_ABI;
  *out = &dsopt::testing::kApi;
  return DSOPT_OK;
}
