// check.h - what every backend refuses: descriptions of weights and programs that do not fit together, batches
// that would read or write anything they should not. One list of rules and messages; knows include/dsopt only.
// What a backend cannot do beyond that, it says itself.
#ifndef DSOPT_KERNELS_SHARED_CHECK_H_
#define DSOPT_KERNELS_SHARED_CHECK_H_

#include <cstddef>
#include <cstdint>

#include "dsopt/backend.h"

namespace dsopt_shared {

inline constexpr uint32_t kPageTokens = 64;

// Hands "one line" to the host and returns code.
[[gnu::format(printf, 3, 4)]] dsopt_status Refuse(const dsopt_host_api& host, dsopt_status code,
                                                  const char* format, ...);

// What is wrong with kind and shape of a weight; NULL: nothing. No product of sides below overflows 2^44.
const char* WeightShapeError(const dsopt_weight_desc& desc);

// A backend's weight as the checks see it.
struct WeightFacts {
  const dsopt_be_device* device;
  dsopt_weight_kind kind;
  uint64_t batch, rows, cols;
  bool tied;
  const char* name;
};
using FactsOf = WeightFacts (*)(const dsopt_be_weight* weight);

// Where backends differ.
struct DescLimits {
  uint32_t vocab = 1u << 24;
  uint32_t head_dim = 1u << 14;
  uint32_t latent = 1u << 14;  // of latent + rope_dim
  uint32_t experts = 1u << 16;
  bool rope_needed = false;  // of attention blocks; latent ones always need it
};
// Blocks against their weights, each other and the cache.
dsopt_status CheckProgram(const dsopt_host_api& host, const dsopt_be_device* device, FactsOf facts,
                          const DescLimits& limits, const dsopt_program_desc& desc);

// Who writes which page in the batch being checked: page_count entries each, zero at first. `stamp` grows with
// every check, so that nothing has to be cleared.
struct PageWriters {
  uint32_t* stamps;
  uint32_t* seqs;
  uint32_t stamp;
};
// window: positions that the longest-sighted block sees; 0: all. Changes nothing but pages.
dsopt_status CheckBatch(const dsopt_host_api& host, const dsopt_program_desc& desc, uint32_t window,
                        PageWriters* pages, const dsopt_batch& batch);

// Copies a struct of another version: what the sender knows, zeros for the rest. False: no or absurd size.
template <typename T>
bool CopyStruct(const T* from, T* to) {
  *to = T{};
  if (from == nullptr || from->struct_size < sizeof(uint32_t)) return false;
  __builtin_memcpy(to, from, from->struct_size < sizeof(T) ? from->struct_size : sizeof(T));
  return true;
}
// Fills a struct of the caller's version, whose size stays as the caller wrote it. False: NULL or no size.
template <typename T>
bool FillStruct(T from, T* to) {
  if (to == nullptr || to->struct_size < sizeof(uint32_t)) return false;
  from.struct_size = to->struct_size;
  __builtin_memcpy(to, &from, from.struct_size < sizeof(T) ? from.struct_size : sizeof(T));
  return true;
}

}  // namespace dsopt_shared
#endif  // DSOPT_KERNELS_SHARED_CHECK_H_
