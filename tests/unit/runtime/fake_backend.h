// fake_backend.h - a backend for tests of the runtime. It implements dsopt_cpu_backend_entry, so it stands
// where the CPU backend would. One cell of 8 bytes per position is its whole cache; the logits of a row are a
// hash of all cells from position 0 on, read through the page table.
#ifndef DSOPT_TESTS_UNIT_RUNTIME_FAKE_BACKEND_H_
#define DSOPT_TESTS_UNIT_RUNTIME_FAKE_BACKEND_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "dsopt/backend.h"

namespace dsopt::testing {

// What the one fake device does, and what it saw. Tests run one at a time.
struct FakeDevice {
  dsopt_device_kind kind = DSOPT_DEVICE_CPU;
  uint32_t preferred_rows = 8;
  uint64_t memory_total = 1u << 30;
  uint64_t memory_used = 0;              // by others
  bool knows_host_pages = true;          // false: an older backend, which does not read that field
  uint32_t advances_per_batch = 1;       // calls of program_advance until a batch is done
  bool replays = false;                  // batches of one row say that they were replayed
  dsopt_status fail_begin = DSOPT_OK;    // returned by the next program_begin
  dsopt_status fail_advance = DSOPT_OK;  // returned by the next program_advance
  dsopt_status fail_copy = DSOPT_OK;
  dsopt_status fail_write = DSOPT_OK;
  uint32_t batches = 0, cancels = 0, copies = 0, open_devices = 0, programs = 0;
  uint32_t largest_batch_rows = 0, largest_batch_seqs = 0;
  uint32_t page_count = 0, host_pages = 0;  // of the last program
  std::vector<std::string> violations;  // of the rules of backend.h
  const dsopt_host_api* last_host = nullptr;
};
extern FakeDevice g_fake;

// The token that follows, and the probability the fake reports for it.
int32_t FakeNextToken(std::span<const int32_t> tokens, uint32_t vocab);
float FakeLogprob(std::span<const int32_t> before, int32_t token);

}  // namespace dsopt::testing
#endif  // DSOPT_TESTS_UNIT_RUNTIME_FAKE_BACKEND_H_
