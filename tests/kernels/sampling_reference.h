// sampling_reference.h - dsopt_sample_row by a sampler that sorts everything in float64.
#ifndef DSOPT_TESTS_KERNELS_SAMPLING_REFERENCE_H_
#define DSOPT_TESTS_KERNELS_SAMPLING_REFERENCE_H_

#include <array>
#include <cstdint>
#include <vector>

#include "dsopt/backend.h"

namespace dsopt::kernel_test {

// Philox4x32-10, written from the paper's tables and checked against its known answers below.
struct Philox {
  uint32_t c[4];
  static Philox Run(std::array<uint32_t, 4> counter, uint32_t k0, uint32_t k1) {
    Philox s{{counter[0], counter[1], counter[2], counter[3]}};
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = static_cast<uint64_t>(s.c[0]) * 0xD2511F53u,
                     p1 = static_cast<uint64_t>(s.c[2]) * 0xCD9E8D57u;
      s = {{static_cast<uint32_t>(p1 >> 32) ^ s.c[1] ^ k0, static_cast<uint32_t>(p1),
            static_cast<uint32_t>(p0 >> 32) ^ s.c[3] ^ k1, static_cast<uint32_t>(p0)}};
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    return s;
  }
};

struct ExpectedToken {
  int32_t token;
  bool borderline;  // a sum came so close to its target that f32 may decide otherwise
};

struct Lists {
  std::vector<int32_t> adjust_tokens;
  std::vector<float> adjust_bias;
  std::vector<int32_t> history_tokens;
  std::vector<uint32_t> history_counts;
};

ExpectedToken SampleReference(const std::vector<float>& logits, const dsopt_sample_row& row,
                              const Lists& lists);

}  // namespace dsopt::kernel_test
#endif  // DSOPT_TESTS_KERNELS_SAMPLING_REFERENCE_H_
