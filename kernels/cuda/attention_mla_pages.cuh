// attention_mla_pages.cuh - a page of latents on its way into a tile of attention_mla_wgmma.cu. Four warps
// bring it: each has a part of the latents' columns, and a quarter of the keys' rotated parts.
#ifndef DSOPT_CUDA_ATTENTION_MLA_PAGES_CUH_
#define DSOPT_CUDA_ATTENTION_MLA_PAGES_CUH_

#include "attention_mla.h"
#include "common/attention_latent.cuh"

namespace dsopt_cuda {

#ifdef DSOPT_CUDA_WGMMA

// What a warp copies of a page: 128 columns of 64 keys, 2 keys at a time, and 16 keys' rotated parts, 4 at a
// time.
struct LaneCopies : LatentTile {
  int key, from, rope_key, rope_from;
  uint32_t to[4], rope_to[2];  // of the first 8 keys; the next 8 lie kAtomBytes on

  __device__ LaneCopies(uint32_t tile, int part, int lane)
      : key(lane / 16),
        from(key * kRowBytes + part * kPartColumns * 2 + lane % 16 * 16),
        rope_key(part * 16 + lane / 8),
        rope_from(rope_key * kRowBytes + kLatent * 2 + lane % 8 * 16) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      to[i] = WgmmaAt<kKeys>(tile, key + 2 * i, part * (kPartColumns / 8) + lane % 16);
#pragma unroll
    for (int i = 0; i < 2; ++i) rope_to[i] = WgmmaAt<kKeys>(tile, rope_key + 4 * i, kLatent / 8 + lane % 8);
  }
  // The tile at `offset` becomes `known` keys and then zeros.
  __device__ __forceinline__ void Copy(int offset, const char* page, int known) const {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      CopyAsync16(rope_to[i % 2] + i / 2 * kAtomBytes + offset, page + rope_from + 4 * i * kRowBytes,
                  rope_key + 4 * i < known);
    page += from;
    known -= key;
#pragma unroll 1
    for (int eight = 0; eight < kKeys / 8; ++eight) {
#pragma unroll
      for (int i = 0; i < 4; ++i) CopyAsync16(to[i] + offset, page + 2 * i * kRowBytes, 2 * i < known);
      offset += kAtomBytes;
      page += 8 * kRowBytes;
      known -= 8;
    }
  }
};

// What a warp copies of a page of codes: 128 columns of 64 keys and 16 keys' rotated parts, in batches of 9
// loads of 16 bytes per lane. While a batch is expanded the next one, perhaps of the next page, is on its way.
template <CacheCode kCode>
struct LaneCodes : LatentTile {
  using C = MlaCodes<kCode>;
  using Expander = CodeExpander<kCode>;
  static constexpr bool kInt4 = kCode == CacheCode::kInt4;
  static constexpr int kLoads = 9, kBatches = kInt4 ? 1 : 2, kBatchKeys = kKeys / kBatches,
                       kBatchRopeKeys = kKeys / kParts / kBatches;
  static constexpr int kLanes = C::kLatentBytes / kParts / 16,  // of a key's part, and of its rotated part
      kRopeLanes = CodeBytes<kCode>(kRope) / 16;
  static constexpr int kLoadKeys = 32 / kLanes;
  static_assert(kLoadKeys * (kLoads - 1) == kBatchKeys && 32 / kRopeLanes == kBatchRopeKeys);

  int key, from, word, rope_key, rope_from, rope_word;
  uint32_t to, rope_to;  // of this lane's first vector
  bool turned;  // vectors 2, 3 before 0, 1 (int4), 1 before 0: banks that the other lanes do not write to
  uint4 codes[kLoads];
  uint32_t words[kLoads];

  __device__ LaneCodes(uint32_t tile, int part, int lane)
      : key(lane / kLanes),
        from(key * C::kRowBytes + (part * kLanes + lane % kLanes) * 16),
        word(key * C::kRowWords + (kInt4 ? part * kLanes + lane % kLanes : 0)),
        rope_key(part * (kKeys / kParts) + lane / kRopeLanes),
        rope_from(rope_key * C::kRowBytes + C::kLatentBytes + lane % kRopeLanes * 16),
        rope_word(rope_key * C::kRowWords + C::kLatentWords + (kInt4 ? lane % kRopeLanes : 0)),
        turned(lane % kLanes >= kLanes / 2) {
    const int first = turned ? Expander::kVectors / 2 : 0;
    to = WgmmaAt<kKeys>(tile, key, part * (kPartColumns / 8) + lane % kLanes * Expander::kVectors + first);
    rope_to = WgmmaAt<kKeys>(tile, rope_key, kLatent / 8 + lane % kRopeLanes * Expander::kVectors);
  }
  // Load i of a batch: `known` keys of the page, the others are zeros.
  __device__ __forceinline__ void Load(int i, int batch, const char* page, int known) {
    const bool rope = i == kLoads - 1;
    const int skipped = rope ? batch * kBatchRopeKeys : batch * kBatchKeys + i * kLoadKeys;
    codes[i] = {0, 0, 0, 0};
    words[i] = 0;
    if ((rope ? rope_key : key) + skipped >= known) return;
    codes[i] =
        __ldcg(reinterpret_cast<const uint4*>(page + (rope ? rope_from : from) + skipped * C::kRowBytes));
    words[i] = __ldcg(reinterpret_cast<const uint32_t*>(page + C::kWordsAt) + (rope ? rope_word : word) +
                      skipped * C::kRowWords);
  }
  // Expands load i of a batch into the tile at `offset`. Vectors of a lane lie in one swizzled line, at the XOR
  // of their numbers; 4 keys on the line's number changes in bit 2, 8 keys on it is the same.
  __device__ __forceinline__ void Store(int i, int batch, int offset, uint4 packed, uint32_t scale) const {
    const Expander expand(scale);
    const bool rope = i == kLoads - 1;
    const int skipped = rope ? batch * kBatchRopeKeys : batch * kBatchKeys + i * kLoadKeys;
    if (!rope) packed = Turned(packed);
    const uint32_t first = (rope ? rope_to : to) ^ (skipped % 8 != 0 ? 64u : 0u);
#pragma unroll
    for (int v = 0; v < Expander::kVectors; ++v)
      StoreShared16((first ^ static_cast<uint32_t>(v << 4)) + offset + skipped * 128, expand.Vector(packed, v));
  }
  __device__ __forceinline__ uint4 Turned(const uint4& v) const {
    return {turned ? v.z : v.x, turned ? v.w : v.y, turned ? v.x : v.z, turned ? v.y : v.w};
  }
};

#endif  // DSOPT_CUDA_WGMMA

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_ATTENTION_MLA_PAGES_CUH_
