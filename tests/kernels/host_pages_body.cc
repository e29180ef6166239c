// host_pages_body.cc - pages of the cache in host memory: numbers and calls. Of backends that have both
// memories.
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstring>
#include <utility>

#include "bodies.h"

namespace dsopt::kernel_test {
namespace {

// Prefill, then single rows across the end of a page, beside another sequence and alone.
std::vector<std::vector<float>> RunBatches(TestModel* model, const ProgramOptions& options, uint64_t seed) {
  Random random(seed);
  TestProgram program(model, options, &random);
  std::vector<std::vector<float>> all;
  const auto run = [&](const std::vector<TestProgram::Part>& parts) {
    for (std::vector<float>& row : program.Run(parts)) all.push_back(std::move(row));
  };
  std::vector<int32_t> long_prompt(90), short_prompt(62);
  for (size_t i = 0; i < long_prompt.size(); ++i) long_prompt[i] = static_cast<int32_t>(i * 7 % 50);
  for (size_t i = 0; i < short_prompt.size(); ++i) short_prompt[i] = static_cast<int32_t>(i * 11 % 50);
  run({{0, long_prompt}});
  run({{1, short_prompt}});
  run({{0, long_prompt}});
  for (int32_t token = 1; token < 5; ++token) run({{0, {token}}, {1, {token + 9}}});
  run({{1, {3}}});
  return all;
}

}  // namespace

void CheckHostPages(const Target& target, const ModelShape& shape, dsopt_precision precision,
                    dsopt_dtype kv_dtype) {
  Random random(Seed() + 12);
  INFO("seed " << Seed() << ", " << target.Name() << ", " << shape.name << ", type " << kv_dtype);
  TestDevice device(target);
  TestModel model(&device, shape, &random);
  ProgramOptions options;
  options.precision = precision;
  options.kv_dtype = kv_dtype;
  const uint64_t seed = random();  // the same pages in the same order
  const auto expected = RunBatches(&model, options, seed);
  for (const uint32_t host_pages : {1u, 40u, 64u}) {
    options.host_pages = host_pages;
    const auto found = RunBatches(&model, options, seed);
    REQUIRE(found.size() == expected.size());
    for (size_t row = 0; row < found.size(); ++row) {
      CAPTURE(host_pages, row);
      REQUIRE(std::memcmp(found[row].data(), expected[row].data(), found[row].size() * 4) == 0);
    }
  }
}

void CheckHostPageCalls(const Target& target) {
  Random random(Seed() + 13);
  INFO("seed " << Seed() << ", " << target.Name());
  TestDevice device(target);
  const dsopt_backend_api* api = device.api;
  TestModel model(&device, SmallShape(), &random);
  ProgramOptions options;
  options.page_count = 5;
  options.max_pages_per_seq = 5;
  options.host_pages = 3;
  dsopt_program_desc desc = MakeDesc(&model, options);
  dsopt_program_memory memory = {}, on_device = {};
  memory.struct_size = on_device.struct_size = sizeof(memory);
  REQUIRE(api->program_plan(device.device, &desc, &memory) == DSOPT_OK);
  CHECK(memory.cache_bytes == 2 * desc.page_bytes);
  CHECK(memory.host_cache_bytes == 3 * desc.page_bytes);
  desc.host_pages = 0;
  REQUIRE(api->program_plan(device.device, &desc, &on_device) == DSOPT_OK);
  CHECK(on_device.cache_bytes == 5 * desc.page_bytes);
  CHECK(on_device.host_cache_bytes == 0);
  CHECK(on_device.workspace_bytes == memory.workspace_bytes);
  CHECK(on_device.host_bytes == memory.host_bytes);

  for (const uint32_t host_pages : {1u, 3u, 5u}) {
    CAPTURE(host_pages);
    options.host_pages = host_pages;
    TestProgram program(&model, options, &random);
    const uint64_t bytes = program.desc.page_bytes;
    std::vector<std::vector<uint8_t>> pages;
    for (uint32_t page = 0; page < 5; ++page) {  // every page has contents of its own
      pages.emplace_back(bytes);
      for (uint64_t i = 0; i < bytes; ++i) pages.back()[i] = static_cast<uint8_t>(i * 7 + i / 251 + page * 31);
      REQUIRE(api->program_write_page(program.handle, page, pages.back().data()) == DSOPT_OK);
    }
    const auto check = [&] {
      std::vector<uint8_t> found(bytes);
      for (uint32_t page = 0; page < 5; ++page) {
        CAPTURE(page);
        REQUIRE(api->program_read_page(program.handle, page, found.data()) == DSOPT_OK);
        CHECK(found == pages[page]);
      }
    };
    check();
    const uint32_t copies[][2] = {{4, 0}, {1, 3}, {2, 4}, {0, 1}, {3, 3}};
    for (const auto& [to, from] : copies) {
      REQUIRE(api->program_copy_page(program.handle, to, from) == DSOPT_OK);
      pages[to] = pages[from];
    }
    check();
  }

  // Each allocation is refused in turn.
  options.host_pages = 3;
  desc = MakeDesc(&model, options);
  for (int64_t request = 0;; ++request) {
    REQUIRE(request < 1000);
    const int64_t live = device.host.live();
    dsopt_be_program* program = nullptr;
    device.host.FailAt(request);
    const dsopt_status status = api->program_create(device.device, &desc, &program);
    device.host.FailAt(-1);
    if (status == DSOPT_OK) {
      api->program_destroy(program);
      CHECK(device.host.live() == live);
      break;
    }
    REQUIRE(program == nullptr);
    REQUIRE(status == DSOPT_E_OUT_OF_MEMORY);
    REQUIRE(device.host.TakeError().size() > 10);
    REQUIRE(device.host.live() == live);
  }

  const auto refused = [&](dsopt_status expected) {
    const int64_t live = device.host.live();
    dsopt_be_program* program = nullptr;
    CHECK(api->program_create(device.device, &desc, &program) == expected);
    CHECK(program == nullptr);
    CHECK(device.host.TakeError().find("host_pages") != std::string::npos);
    CHECK(device.host.live() == live);
  };
  desc.host_pages = 6;
  refused(DSOPT_E_INVALID_ARGUMENT);
  desc.host_pages = UINT32_MAX;
  refused(DSOPT_E_INVALID_ARGUMENT);
  // An older core's description ends before host_pages: whatever lies behind it is not read.
  desc.struct_size = offsetof(dsopt_program_desc, host_pages);
  dsopt_be_program* program = nullptr;
  REQUIRE(api->program_create(device.device, &desc, &program) == DSOPT_OK);
  api->program_destroy(program);
}

}  // namespace dsopt::kernel_test
