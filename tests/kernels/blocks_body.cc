// blocks_body.cc - numbers: blocks against the reference, and bitwise against themselves.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "bodies.h"
#include "reference.h"

namespace dsopt::kernel_test {

std::vector<ModelShape> AllShapes() {
  const auto attention = [](AttentionShape s) { return Block(s); };
  return {
      {"one attention head", 64, 97, {attention({1, 1, 64})}},
      {"three heads of 96, biases", 72, 101, {attention({3, 3, 96, 0, true})}, DSOPT_BF16, true},
      {"grouped heads of 128, short window", 65, 131, {attention({6, 2, 128, 7})}, DSOPT_F16},
      {"eight heads share one, partial interleaved rotation",
       64,
       70,
       {attention({8, 1, 64, 0, false, 32, true})},
       DSOPT_F32},
      {"dense mlp, odd sizes", 63, 1007, {Block(MlpShape{77})}, DSOPT_BF16, true, 3.5f},
      {"gelu mlp with biases", 130, 66, {Block(MlpShape{32, DSOPT_ACT_GELU_TANH, true})}, DSOPT_F16},
      {"f32 mlp", 50, 64, {Block(MlpShape{33, DSOPT_ACT_SILU, true})}, DSOPT_F32, true},
      {"latent attention with low-rank queries", 96, 90, {Block(MlaShape{3, 40, 72, 34, 16, 30})}},
      {"latent attention, plain queries", 64, 80, {Block(MlaShape{2, 0, 64, 32, 32, 64})}, DSOPT_F32},
      {"mixture, renormalised", 64, 88, {Block(MoeShape{8, 2, 48})}},
      {"grouped mixture with shared expert", 70, 60, {Block(MoeShape{16, 4, 33, 37, 4, 2, false, 2.0f})}},
      {"f16 mixture, gelu",
       64,
       60,
       {Block(MoeShape{5, 3, 20, 20, 0, 0, true, 1.0f, DSOPT_ACT_GELU_TANH})},
       DSOPT_F16},
      {"two layers",
       128,
       300,
       {attention({4, 2, 32}), Block(MlpShape{160}), attention({4, 2, 32, 20}), Block(MlpShape{160})}},
  };
}

// Vectors of whole and of broken groups of 32, of fewer values than a register has, and MLA.
std::vector<ModelShape> CacheShapes() {
  return {
      {"cached heads of 64, grouped", 64, 97, {Block(AttentionShape{6, 2, 64}), Block(MlpShape{80})}},
      {"cached heads of 96, biases, window", 72, 101, {Block(AttentionShape{2, 1, 96, 37, true})}},
      {"cached heads of 18",
       64,
       70,
       {Block(AttentionShape{3, 3, 18}), Block(AttentionShape{2, 2, 6})},
       DSOPT_F32},
      {"cached latents",
       64,
       80,
       {Block(MlaShape{2, 0, 64, 32, 32, 64}), Block(MlaShape{3, 40, 72, 34, 18, 30})}},
  };
}

namespace {

std::vector<int32_t> RandomTokens(Random* random, uint32_t vocab, size_t count) {
  std::vector<int32_t> tokens(count);
  for (int32_t& t : tokens) t = static_cast<int32_t>((*random)() % vocab);
  return tokens;
}

double Rms(const std::vector<double>& v) {
  double sum = 0.0;
  for (const double x : v) sum += x * x;
  return std::sqrt(sum / static_cast<double>(v.size()));
}

// Errors of the logits are, to a good approximation, normal; a bound of 8 deviations holds for millions of
// them. One staged activation rounded to bf16 is off by 2^-9 / sqrt(3) of itself at most; a block rounds about
// 5 times on the way (norm, intermediate, keys, values, head input) and errors of independent values add in
// quadrature, relative to the logits' own size. In f32 what is left is the sums: 2^-24 times the root of the
// terms of a chain. Random fp8 codes lie in octaves (kurtosis 10, of normal numbers 3): a few products of a sum decide
// it, their errors do not average, and where they cancel little is left. Of 61 440 rows of a two-layer model in float64
// with nothing but the roundings, 3 were beyond the bound of other codes with fp8 codes, none with int8.
double Tolerance(const ModelShape& shape, dsopt_precision precision, dsopt_dtype kv) {
  const double roundings = 5.0 * static_cast<double>(shape.blocks.size()) + 1.0;
  const bool coarse = (precision == DSOPT_PRECISION_FAST && shape.dtype != DSOPT_F32) || kv == DSOPT_BF16;
  const double unit = coarse ? std::ldexp(1.0, -9) : std::ldexp(1.0, -24) * std::sqrt(1024.0);
  const double tails = shape.coded.encoding == DSOPT_ENCODING_FP8 ? 2.0 : 1.0;
  return 8.0 * unit / std::sqrt(3.0) * std::sqrt(roundings) * 2.0 * tails;
}

// Logits of positions first, first + 1, ... of a sequence.
void Compare(const std::vector<std::vector<float>>& found, size_t offset, const ReferenceResult& reference,
             size_t first, size_t count, double tolerance) {
  for (size_t i = 0; i < count; ++i) {
    if (reference.route_margin[first + i] < 1e-4) continue;  // f32 may route otherwise
    const std::vector<double>& expected = reference.logits[first + i];
    const double unit = Rms(expected);
    double worst = 0.0;
    size_t at = 0;
    for (size_t t = 0; t < expected.size(); ++t) {
      const double error = std::fabs(static_cast<double>(found[offset + i][t]) - expected[t]) / unit;
      if (!(error <= worst)) {
        worst = error;
        at = t;
      }
    }
    if (worst <= tolerance) continue;
    CAPTURE(first + i, at, found[offset + i][at], expected[at], worst, tolerance);
    FAIL("logit is off");
  }
}

struct Precision {
  dsopt_precision precision;
  dsopt_dtype kv;
};
constexpr Precision kPrecisions[] = {{DSOPT_PRECISION_REFERENCE, DSOPT_F32},
                                     {DSOPT_PRECISION_FAST, DSOPT_BF16},
                                     {DSOPT_PRECISION_FAST, DSOPT_F32}};

void RequireSame(const std::vector<float>& a, const std::vector<float>& b, const char* what, size_t row) {
  if (std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0) return;
  for (size_t t = 0; t < a.size(); ++t) {
    if (std::memcmp(&a[t], &b[t], sizeof(float)) == 0) continue;
    CAPTURE(what, row, t, a[t], b[t]);
    FAIL("not the same bits");
  }
}

}  // namespace

void CheckAgainstReference(const Target& target, const ModelShape& shape, uint32_t host_pages) {
  Random random(Seed());
  INFO("seed " << Seed() << ", " << target.Name() << ", " << shape.name << ", host pages " << host_pages);
  TestDevice device(target);
  TestModel model(&device, shape, &random);
  const auto a = RandomTokens(&random, shape.vocab, 23), b = RandomTokens(&random, shape.vocab, 70),
             c = RandomTokens(&random, shape.vocab, 1);
  const ReferenceResult ra = RunReference(model, a), rb = RunReference(model, b), rc = RunReference(model, c);
  for (const Precision& p : kPrecisions) {
    CAPTURE(p.precision, p.kv);
    ProgramOptions options;
    options.precision = p.precision;
    options.kv_dtype = p.kv;
    options.host_pages = host_pages;
    const double tolerance = Tolerance(shape, p.precision, p.kv);
    TestProgram program(&model, options, &random);
    const auto found = program.Run({{0, a}, {1, b}, {2, c}});
    Compare(found, 0, ra, 0, a.size(), tolerance);
    Compare(found, a.size(), rb, 0, b.size(), tolerance);
    Compare(found, a.size() + b.size(), rc, 0, c.size(), tolerance);
  }
}

void CheckBatchInvariance(const Target& target, const ModelShape& shape) {
  for (const Precision& p : kPrecisions) CheckBatchInvariance(target, shape, p.precision, p.kv);
}

void CheckBatchInvariance(const Target& target, const ModelShape& shape, dsopt_precision precision,
                          dsopt_dtype kv_dtype) {
  Random random(Seed() + 1);
  INFO("seed " << Seed() << ", " << target.Name() << ", " << shape.name);
  Target alone = target;
  alone.threads = 1;
  const auto a = RandomTokens(&random, shape.vocab, 29), b = RandomTokens(&random, shape.vocab, 66);
  const uint64_t weights_seed = random();
  CAPTURE(precision, kv_dtype);
  ProgramOptions options;
  options.precision = precision;
  options.kv_dtype = kv_dtype;
  std::vector<std::vector<float>> expected;
  {  // all at once, one thread
    Random same(weights_seed);
    TestDevice device(alone);
    TestModel model(&device, shape, &same);
    TestProgram program(&model, options, &random);
    expected = program.Run({{0, a}, {1, b}});
  }
  Random same(weights_seed);
  TestDevice device(target);
  TestModel model(&device, shape, &same);
  {
    TestProgram program(&model, options, &random);
    const auto found = program.Run({{1, b}, {0, a}});
    for (size_t i = 0; i < b.size(); ++i) RequireSame(found[i], expected[a.size() + i], "other order", i);
    for (size_t i = 0; i < a.size(); ++i) RequireSame(found[b.size() + i], expected[i], "other order", i);
  }
  {
    TestProgram program(&model, options, &random);
    const auto found = program.Run({{5, a}}, true);
    for (size_t i = 0; i < a.size(); ++i) RequireSame(found[i], expected[i], "alone, in slices", i);
  }
  TestProgram program(&model, options, &random);
  size_t done_a = 0, done_b = 0;
  while (done_a < a.size() || done_b < b.size()) {
    std::vector<TestProgram::Part> parts;
    const size_t next_a = std::min(a.size(), done_a + random() % 9),
                 next_b = std::min(b.size(), done_b + random() % 17);
    if (next_a > done_a)
      parts.push_back({0, {a.begin() + static_cast<long>(done_a), a.begin() + static_cast<long>(next_a)}});
    if (next_b > done_b)
      parts.push_back({1, {b.begin() + static_cast<long>(done_b), b.begin() + static_cast<long>(next_b)}});
    if (parts.empty()) continue;
    const auto found = program.Run(parts, random() % 4 == 0);
    size_t row = 0;
    for (; done_a < next_a; ++done_a) RequireSame(found[row++], expected[done_a], "chunked", done_a);
    for (; done_b < next_b; ++done_b) RequireSame(found[row++], expected[a.size() + done_b], "chunked", done_b);
  }
}

// The codes are those nearest to what float64 computes, and the logits those of float64 attention over what the
// codes say: both without knowing how a backend reads or writes them.
void CheckCodedCache(const Target& target, const ModelShape& shape, dsopt_precision precision,
                     dsopt_dtype kv_dtype) {
  Random random(Seed() + 3);
  INFO("seed " << Seed() << ", " << target.Name() << ", " << shape.name);
  CAPTURE(precision, kv_dtype);
  TestDevice device(target);
  TestModel model(&device, shape, &random);
  ProgramOptions options;
  options.precision = precision;
  options.kv_dtype = kv_dtype;
  const double tolerance = Tolerance(shape, precision, DSOPT_F32);
  TestProgram program(&model, options, &random);
  const auto a = RandomTokens(&random, shape.vocab, 31), b = RandomTokens(&random, shape.vocab, 65);
  const auto prompt = program.Run({{0, a}, {1, b}});
  const auto next = program.Run({{1, {5}}, {0, {7}}});  // one row each, over positions of two batches
  for (uint32_t s = 0; s < 2; ++s) {
    std::vector<int32_t> tokens = s == 0 ? a : b;
    tokens.push_back(s == 0 ? 7 : 5);
    const CacheImage cache = ReadCache(program, s);
    const ReferenceResult reference = RunReference(model, tokens, &cache);
    CHECK(reference.worst_cache_error <= tolerance);
    Compare(prompt, s == 0 ? 0 : a.size(), reference, 0, tokens.size() - 1, tolerance);
    Compare(next, s == 0 ? 1 : 0, reference, tokens.size() - 1, 1, tolerance);
  }
}

void CheckLongContext(const Target& target, uint32_t window, uint32_t length, dsopt_dtype kv_dtype) {
  Random random(Seed() + 2);
  INFO("seed " << Seed() << ", " << target.Name() << ", window " << window << ", " << length << " tokens");
  ModelShape shape{
      "long",
      64,
      40,
      {Block(AttentionShape{2, 1, 64, window}), Block(MlpShape{40}), Block(AttentionShape{2, 2, 32, window})}};
  if (window == 0) shape.blocks.push_back(Block(MlaShape{2, 0, 32, 16, 16, 16}));
  TestDevice device(target);
  TestModel model(&device, shape, &random);
  const auto tokens = RandomTokens(&random, shape.vocab, length);
  ProgramOptions options;
  options.kv_dtype = kv_dtype;
  options.max_rows = length;
  options.max_pages_per_seq = length / 64 + 1;
  options.page_count = options.max_pages_per_seq + 3;
  std::vector<std::vector<float>> expected;
  {
    TestProgram program(&model, options, &random);
    expected = program.Run({{0, tokens}});
    const CacheImage cache = kv_dtype == DSOPT_F32 ? CacheImage() : ReadCache(program, 0);
    const ReferenceResult reference = RunReference(model, tokens, kv_dtype == DSOPT_F32 ? nullptr : &cache);
    Compare(expected, 0, reference, 0, length, Tolerance(shape, options.precision, DSOPT_F32) * 2);
  }
  options.max_rows = 48;  // smaller buffers: other waves
  TestProgram program(&model, options, &random);
  for (size_t done = 0; done < length;) {
    const size_t next = std::min<size_t>(length, done + 1 + random() % 48);
    const auto found = program.Run(
        {{0, {tokens.begin() + static_cast<long>(done), tokens.begin() + static_cast<long>(next)}}});
    for (size_t row = 0; done < next; ++done, ++row) RequireSame(found[row], expected[done], "chunked", done);
  }
}

namespace {

// Of a sequence that the program has run; over what is in its cache where that holds codes.
ReferenceResult ReferenceOf(const TestProgram& program, const std::vector<int32_t>& tokens, uint32_t sequence) {
  const dsopt_dtype type = program.desc.kv_dtype;
  if (type == DSOPT_F32 || type == DSOPT_BF16) return RunReference(*program.model, tokens);
  const CacheImage cache = ReadCache(program, sequence);
  return RunReference(*program.model, tokens, &cache);
}

struct NextRows {
  uint32_t sequence;
  size_t most;
};

// One batch of the tokens that follow in each sequence, as many as there are; found: logits of every row so
// far.
void RunNext(TestProgram* program, const std::vector<int32_t>* tokens, const std::vector<NextRows>& next,
             std::vector<std::vector<float>>* found) {
  std::vector<TestProgram::Part> parts;
  for (const auto& [s, most] : next) {
    const size_t done = found[s].size(), rows = std::min(most, tokens[s].size() - done);
    const auto from = tokens[s].begin() + static_cast<long>(done);
    if (rows > 0) parts.push_back({s, {from, from + static_cast<long>(rows)}});
  }
  size_t row = 0;
  const auto logits = program->Run(parts);
  for (const TestProgram::Part& part : parts)
    for (size_t i = 0; i < part.tokens.size(); ++i) found[part.sequence].push_back(logits[row++]);
}

}  // namespace

void CheckLongPrefill(const Target& target, const ModelShape& shape, dsopt_dtype kv_dtype) {
  Random random(Seed() + 4);
  INFO("seed " << Seed() << ", " << target.Name() << ", " << shape.name);
  CAPTURE(kv_dtype);
  TestDevice device(target);
  TestModel model(&device, shape, &random);
  const std::vector<int32_t> tokens[2] = {RandomTokens(&random, shape.vocab, 517),
                                          RandomTokens(&random, shape.vocab, 389)};
  ProgramOptions options;
  options.precision = DSOPT_PRECISION_FAST;
  options.kv_dtype = kv_dtype;
  options.max_rows = 640;
  options.max_pages_per_seq = 9;
  options.page_count = 20;
  // Whole row tiles and parts of them, one row more and less, few rows; then whatever comes.
  std::vector<size_t> chunks[2][2] = {{{300, 77, 128, 12}, {129, 5, 64, 191}}, {}};
  for (std::vector<size_t>& some : chunks[1])
    while (some.size() < 12) some.push_back(1 + random() % (some.size() % 2 == 0 ? 150 : 20));
  for (const auto& schedule : chunks) {
    TestProgram program(&model, options, &random);
    std::vector<std::vector<float>> found[2];
    for (size_t step = 0; found[0].size() < tokens[0].size() || found[1].size() < tokens[1].size(); ++step) {
      std::vector<NextRows> next;
      for (uint32_t s = 0; s < 2; ++s)
        next.push_back({s, step < schedule[s].size() ? schedule[s][step] : tokens[s].size()});
      RunNext(&program, tokens, next, found);
    }
    for (uint32_t s = 0; s < 2; ++s) {
      CAPTURE(s);
      const ReferenceResult reference = ReferenceOf(program, tokens[s], s);
      Compare(found[s], 0, reference, 0, tokens[s].size(), Tolerance(shape, options.precision, DSOPT_BF16));
    }
  }
}

void CheckLongDecode(const Target& target, const ModelShape& shape, size_t length, dsopt_dtype kv_dtype) {
  constexpr size_t kSteps = 12, kShort = 70;
  Random random(Seed() + 5);
  INFO("seed " << Seed() << ", " << target.Name() << ", " << shape.name);
  CAPTURE(kv_dtype);
  TestDevice device(target);
  TestModel model(&device, shape, &random);
  const std::vector<int32_t> tokens[3] = {RandomTokens(&random, shape.vocab, length),
                                          RandomTokens(&random, shape.vocab, kShort + kSteps),
                                          RandomTokens(&random, shape.vocab, length / 2)};
  ProgramOptions options;
  options.precision = DSOPT_PRECISION_FAST;
  options.kv_dtype = kv_dtype;
  options.max_rows = 512;
  options.max_pages_per_seq = static_cast<uint32_t>(length / 64 + 1);
  options.page_count = 2 * options.max_pages_per_seq + 4;
  TestProgram program(&model, options, &random);
  std::vector<std::vector<float>> found[3];
  const auto run = [&](const std::vector<NextRows>& next) { RunNext(&program, tokens, next, found); };
  // All but the last rows in large chunks; then one row at a time, few rows, and sequences side by side.
  for (uint32_t s = 0; s < 3; ++s)
    for (const size_t stop = s == 1 ? kShort : tokens[s].size() - kSteps; found[s].size() < stop;)
      run({{s, std::min<size_t>(stop - found[s].size(), 500)}});
  run({{0, 1}});
  run({{1, 1}});
  run({{0, 3}});
  run({{0, 1}, {1, 1}, {2, 1}});
  run({{1, 4}, {2, 2}});
  while (found[0].size() < tokens[0].size() || found[1].size() < tokens[1].size() ||
         found[2].size() < tokens[2].size())
    run({{0, 1 + random() % 2}, {1, 1}, {2, 1 + random() % 4}});
  for (uint32_t s = 0; s < 3; ++s) {
    CAPTURE(s);
    const ReferenceResult reference = ReferenceOf(program, tokens[s], s);
    Compare(found[s], 0, reference, 0, tokens[s].size(), Tolerance(shape, options.precision, DSOPT_BF16));
  }
}

void CheckManyDecode(const Target& target, const ModelShape& shape) {
  constexpr uint32_t kMany = 32;
  constexpr size_t kSteps = 9;
  Random random(Seed() + 6);
  INFO("seed " << Seed() << ", " << target.Name() << ", " << shape.name);
  TestDevice device(target);
  TestModel model(&device, shape, &random);
  ProgramOptions options;
  options.precision = DSOPT_PRECISION_FAST;
  options.kv_dtype = DSOPT_BF16;
  options.flags = DSOPT_PROGRAM_FUSE_LAYERS;
  options.max_seqs = kMany;
  options.max_rows = 160;
  options.max_pages_per_seq = 3;
  options.page_count = 3 * kMany;
  TestProgram program(&model, options, &random);
  std::vector<int32_t> tokens[kMany];
  std::vector<std::vector<float>> found[kMany];
  std::vector<uint32_t> order;
  for (uint32_t s = 0; s < kMany; ++s) {
    // From nothing in the cache to two pages, some ending with a page.
    const size_t length = s < 3 ? s : s < 6 ? 64 * (s - 3) + 1 : random() % 140;
    tokens[s] = RandomTokens(&random, shape.vocab, length + kSteps);
    order.push_back(s);
    if (length > 0) RunNext(&program, tokens, {{s, length}}, found);
  }
  for (const size_t rows : {size_t{32}, size_t{1}, size_t{8}, size_t{9}, size_t{16}, size_t{17}, size_t{2}, size_t{31},
                            size_t{32}}) {
    std::vector<NextRows> next;
    for (size_t i = 0; i < rows; ++i) {
      std::swap(order[i], order[i + random() % (kMany - i)]);
      next.push_back({order[i], 1});
    }
    RunNext(&program, tokens, next, found);
  }
  for (uint32_t s = 0; s < kMany; ++s) {
    CAPTURE(s, found[s].size());
    tokens[s].resize(found[s].size());
    const ReferenceResult reference = RunReference(model, tokens[s], nullptr);
    Compare(found[s], 0, reference, 0, tokens[s].size(), Tolerance(shape, options.precision, DSOPT_BF16));
  }
}

void CheckCachePlans(const Target& target) {
  Random random(Seed() + 6);
  INFO("seed " << Seed() << ", " << target.Name());
  TestDevice device(target);
  const ModelShape shapes[] = {
      {"heads of 128, 64 and 18",
       64,
       40,
       {Block(AttentionShape{2, 1, 128}), Block(AttentionShape{2, 2, 64}), Block(AttentionShape{3, 3, 18})}},
      {"latents of 512 + 64", 64, 40, {Block(MlaShape{2, 0, 512, 8, 64, 8})}},
      {"latents of 72 + 18", 64, 40, {Block(MlaShape{3, 40, 72, 34, 18, 30})}},
  };
  // Bytes of a position: values of four or two bytes; a byte each and a word per vector; half of one and a word
  // per 32 values.
  const uint64_t heads = 2 * (1 * 128 + 2 * 64 + 3 * 18), vectors = 2 * (1 + 2 + 3);
  const uint64_t words = 2 * (1 * 4 + 2 * 2 + 3 * 1);
  const uint64_t expected[][3] = {{heads * 4, 576 * 4, 90 * 4},
                                  {heads * 2, 576 * 2, 90 * 2},
                                  {heads + vectors * 4, 576 + 8, 90 + 8},
                                  {heads + vectors * 4, 576 + 8, 90 + 8},
                                  {heads / 2 + words * 4, 288 + 18 * 4, 45 + 4 * 4}};
  const dsopt_dtype types[] = {DSOPT_F32, DSOPT_BF16, DSOPT_F8_E4M3, DSOPT_I8, DSOPT_I4};
  for (size_t s = 0; s < 3; ++s) {
    TestModel model(&device, shapes[s], &random);
    for (size_t t = 0; t < 5; ++t) {
      for (const dsopt_precision precision : {DSOPT_PRECISION_REFERENCE, DSOPT_PRECISION_FAST}) {
        INFO(shapes[s].name << ", type " << types[t] << ", precision " << precision);
        ProgramOptions options;
        options.precision = precision;
        options.kv_dtype = types[t];
        dsopt_program_desc desc = MakeDesc(&model, options);
        desc.page_bytes = (64 * expected[t][s] + 255) / 256 * 256;
        dsopt_program_memory memory = {};
        memory.struct_size = sizeof(memory);
        const dsopt_status status = device.api->program_plan(device.device, &desc, &memory);
        INFO(device.host.TakeError());
        REQUIRE(status == DSOPT_OK);
        CHECK(memory.cache_bytes == desc.page_count * desc.page_bytes);
        // A page that is 256 bytes smaller does not hold them.
        desc.page_bytes -= 256;
        CHECK(device.api->program_plan(device.device, &desc, &memory) < 0);
        CHECK(device.host.TakeError().size() > 10);
      }
    }
  }
}

}  // namespace dsopt::kernel_test
