// fake_device.h - a backend table that only keeps what is written: shows which element of a weight got which
// value.
#ifndef DSOPT_TESTS_UNIT_MODEL_FAKE_DEVICE_H_
#define DSOPT_TESTS_UNIT_MODEL_FAKE_DEVICE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "device/device.h"

namespace dsopt::test {

struct FakeWeight {
  dsopt_weight_desc desc = {};
  std::vector<uint8_t> bytes;
  std::vector<uint8_t> writes;  // per element: how often
  std::vector<float> scales, offsets;  // by group
  std::vector<uint8_t> scale_writes;   // per group: how often
  bool filled = false;
  uint64_t seed = 0;
};

// What the table does; one at a time, reset by MakeFakeDevice.
struct FakeBackend {
  std::map<std::string, FakeWeight> weights;  // by name; kept after destruction
  int live_weights = 0;
  int finishes = 0;
  uint64_t memory_free = 1u << 30;
  int fail_write_at = -1;  // the n-th weight_write fails
  int writes = 0;
};
FakeBackend& Fake();
std::shared_ptr<Device> MakeFakeDevice(bool knows_scales = true);

}  // namespace dsopt::test
#endif  // DSOPT_TESTS_UNIT_MODEL_FAKE_DEVICE_H_
