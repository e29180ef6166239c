// persistent_latent.cu - one decode step of a model with latent attention as one kernel, one CTA per SM, for
// batch 1.
//
// As in persistent_dense.cu a producer warp streams this CTA's weights and cached keys into a ring of shared
// memory and waits for nothing but room (and for the router's choice), eight consumer warps multiply, and
// outputs start as a NaN marker that their readers wait for. Phases of a layer, "all": every CTA has a share,
// "head": one CTA per head:
//
//   down (all)      q of low rank | latent | rope part                    norm folded in, as everywhere
//   query (head)    q_up, rope, and k_up: the query in the space of the latents; the current token's key
//   attend          a group of heads over a range of cached keys          partial results
//   values (head)   merge, the current token, v_up
//   out (all)       + residual
//   up (all)        router rows; gate and up of the shared experts, while a warp of every CTA chooses experts;
//                   gate and up of those
//   down (all)      chosen and shared experts + residual
//
// A dense layer is one with shared experts only. The head comes last. Vectors that only products read (queries,
// attended values, gated values) are handed over as pairs of bf16.
//
// bytes   weights of the step once, the cache once per group of heads (from DRAM once), activations through L2
// grid    SMs x 320 threads: 8 consumer warps, 1 producer, 1 that marks and routes
//         of V2 512, with 4 warps that score long contexts: latent_tiles.cuh
// bound   DRAM inside the phases; between them 1 to 4 us a hand-over, of which what the ring holds is hidden
#include "persistent/latent_packed.cuh"
#include "persistent/latent_rows.cuh"
#include "persistent/latent_step.cuh"

namespace dsopt_cuda {
namespace {

using persistent::LatentDimensions;
using persistent::LatentPacked;
using persistent::LatentRows;

// hidden, heads, q rank, inner, shared, dense, experts, top k, groups, top groups, parts of outputs, copies in
// flight near a hand-over and inside a phase
using V2 = LatentDimensions<5120, 128, 1536, 1536, 3072, 12288, 160, 6, 8, 3, 1, 2, 5>;
using V2Int4 = LatentDimensions<5120, 128, 1536, 1536, 3072, 12288, 160, 6, 8, 3, 2, 2, 3>;
using Lite = LatentDimensions<2048, 16, 0, 1408, 2816, 10944, 64, 6, 1, 1, 1, 2, 3>;

using RowsV2 = LatentRows<V2>;
using PackedV2 = LatentPacked<V2Int4, Int4, Int8>;
using PackedV2By64 = LatentPacked<V2Int4, Int4By64, Int8>;
using RowsLite = LatentRows<Lite>;

enum class Variant { kNone, kV2, kV2Int4, kLite };

Variant VariantOf(const LatentShape& shape) {
  const bool plain = shape.packing == Packing::kNone && shape.head_packing == Packing::kNone;
  const bool int4 = shape.packing == Packing::kInt4 && shape.head_packing == Packing::kInt8 &&
                    shape.vocab % kBlockRows == 0 &&
                    (shape.group == Int4::kGroup || shape.group == Int4By64::kGroup);
  if (persistent::LatentMatches<V2>(shape))
    return plain ? Variant::kV2 : int4 ? Variant::kV2Int4 : Variant::kNone;
  return persistent::LatentMatches<Lite>(shape) && plain ? Variant::kLite : Variant::kNone;
}

}  // namespace

bool LatentSupported(const Limits& limits, const LatentShape& shape) {
  return limits.arch >= 90 && limits.arch < 100 && limits.shared_bytes >= 227 * 1024 && shape.layers > 0 &&
         limits.sms > shape.heads && VariantOf(shape) != Variant::kNone;
}

uint64_t LatentActivationFloats(const LatentShape& shape) {
  const uint64_t layers = static_cast<uint64_t>(shape.layers);
  switch (VariantOf(shape)) {
    case Variant::kV2:
      return V2::kLayer * layers;
    case Variant::kV2Int4:
      return V2Int4::kLayer * layers;
    case Variant::kLite:
      return Lite::kLayer * layers;
    case Variant::kNone:
      break;
  }
  return 0;
}

uint64_t LatentPartialFloats(const Limits& limits, const LatentShape& shape) {
  switch (VariantOf(shape)) {
    case Variant::kV2:
    case Variant::kV2Int4:
      return persistent::PartialFloats<V2>(limits.sms);
    case Variant::kLite:
      return persistent::PartialFloats<Lite>(limits.sms);
    case Variant::kNone:
      break;
  }
  return 0;
}

uint64_t LatentCounterWords(const LatentShape& shape) {
  return (static_cast<uint64_t>(shape.layers) * persistent::kLatentPhases + 1) * 32;
}

cudaError_t LatentDecode(const Launch& launch, const LatentShape& shape, const LatentStep& step) {
  switch (VariantOf(shape)) {
    case Variant::kV2:
      return persistent::RunLatentStep<V2, RowsV2>(launch, shape, step);
    case Variant::kV2Int4:
      return shape.group == Int4::kGroup ? persistent::RunLatentStep<V2Int4, PackedV2>(launch, shape, step)
                                         : persistent::RunLatentStep<V2Int4, PackedV2By64>(launch, shape, step);
    case Variant::kLite:
      return persistent::RunLatentStep<Lite, RowsLite>(launch, shape, step);
    case Variant::kNone:
      break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace dsopt_cuda
