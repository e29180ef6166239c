// config.h - values derived from a ConfigSpec: rotary tables, score scales, the layout of a cache page, and the
// checks common to all architectures. Pure functions; no device.
#ifndef DSOPT_MODEL_CONFIG_H_
#define DSOPT_MODEL_CONFIG_H_

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "spec/cache_spec.h"
#include "spec/model_spec.h"

namespace dsopt {

// Ranges and products that every architecture needs before anything is multiplied or allocated. The message
// names the field, the value and the limit.
Status CheckConfig(const ConfigSpec& config);

struct RopeTable {
  RopeSpec spec;                // what it was made from
  std::vector<float> inv_freq;  // [spec.dim / 2]
  float scale = 1.0f;           // of cos and sin
};

// The frequencies as the published references compute them: default, linear, llama3, and yarn (arXiv
// 2309.00071, correction range rounded outwards).
RopeTable MakeRopeTable(const RopeSpec& rope);

// yarn's magnitude correction: 0.1 mscale ln(factor) + 1, or 1 when factor <= 1.
float YarnMscale(float factor, float mscale);

// Of the attention scores: the spec's own value, else 1/sqrt(head dimension), for MLA with yarn times
// mscale(factor, mscale_all_dim)^2.
float ScoreScale(const LayerKind& kind);

// Bytes that one layer of this kind takes in a cache page.
uint64_t LayerPageBytes(const LayerKind& kind, dsopt_dtype kv_dtype);

struct PageLayout {
  std::vector<uint64_t> layer_offsets;  // in bytes, one per layer, each a multiple of 256
  uint64_t page_bytes = 0;              // a multiple of 256
};
PageLayout MakePageLayout(const ConfigSpec& config, dsopt_dtype kv_dtype);

}  // namespace dsopt
#endif  // DSOPT_MODEL_CONFIG_H_
