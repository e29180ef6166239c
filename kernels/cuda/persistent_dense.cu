// persistent_dense.cu - one decode step as one kernel, one CTA per SM, for batch 1.
//
// A producer warp streams this CTA's weight rows and cache pages with bulk copies into a ring of shared memory.
// Weights and past cache entries are immutable, so it never waits for a phase: it runs ahead until the ring is
// full, which hides every hand-over between phases behind copies that have landed. Copies *in flight* are
// limited (kWindow near a hand-over, kDeep inside a phase), because fences, polls and activation loads queue
// behind them. Eight consumer warps keep the activation vector in registers: a weight costs one shared-memory
// read, a convert and an FMA. Partial sums of 16 rows go through a table to the epilogue's warp, so that the
// consumers begin the next rows. Phases per layer: qkv | attention | out + residual | gate/up | down +
// residual; then the head. Hand-over ("hybrid"): outputs start as a NaN marker; writers store relaxed and bump
// a relaxed counter (a hint, no fence); readers wait for the hint and load until nothing holds the marker.
// Attention: the cached pages of all KV heads are one line cut into equal ranges, one per CTA; S^T = K Q^T and
// O^T = V^T P^T on tensor cores; partial results go to global memory, where the first CTA of a KV head merges
// them, adds the current token (which is not in the cache yet), and appends that token's k and v. A cache of
// codes is read as it is (common/attention_coded.cuh), its scales beside it.
//
// bytes   all weights once, the cache once, activations ~0.1 % of that through L2
// grid    SMs x 352 threads: 8 consumer warps, 1 producer, 1 that re-marks the next step's activations, 1 of
//         epilogues; with encoded weights (phases.cuh) 320, epilogues by the first consumer warp
// bound   DRAM. RMSNorm takes no pass: the gain is multiplied into the activations, 1/rms in the epilogue. The
//         code of a layer has to fit into the instruction cache: operation.cuh.
#include "persistent/shapes.cuh"

namespace dsopt_cuda {

bool DenseSupported(const Limits& limits, const DenseShape& shape) {
  return limits.arch >= 90 && limits.arch < 100 && limits.shared_bytes >= 227 * 1024 && shape.layers > 0 &&
         limits.sms >= 2 * shape.kv_heads && limits.sms <= 28 * shape.kv_heads &&
         (shape.packing != Packing::kNone ? DensePackedSupported(shape) : persistent::MatchesAny(shape));
}

uint64_t DenseActivationFloats(const DenseShape& shape) {
  const uint64_t q = static_cast<uint64_t>(shape.q_heads) * shape.head_dim;
  const uint64_t kv = static_cast<uint64_t>(shape.kv_heads) * shape.head_dim;
  return (2 * q + 2 * kv + 2 * static_cast<uint64_t>(shape.hidden) +
          static_cast<uint64_t>(shape.inner) * static_cast<uint64_t>(shape.top_k)) *
         static_cast<uint64_t>(shape.layers);
}

uint64_t DensePartialFloats(const Limits& limits, const DenseShape& shape) {
  const uint64_t group = static_cast<uint64_t>(shape.q_heads / shape.kv_heads);
  return uint64_t{persistent::kPartialSets} * static_cast<uint64_t>(limits.sms) * 2 * group *
         (static_cast<uint64_t>(shape.head_dim) + 2);
}

uint64_t DenseCounterWords(const DenseShape& shape) {
  return (static_cast<uint64_t>(shape.layers) * 4 + 1) * 32;
}

cudaError_t DenseDecode(const Launch& launch, const DenseShape& shape, const DenseStep& step) {
  if (shape.cache == CacheCode::kFp8) return DenseFp8CacheDecode(launch, shape, step);
  if (shape.cache == CacheCode::kInt8) return DenseInt8CacheDecode(launch, shape, step);
  if (shape.cache == CacheCode::kInt4) return DenseInt4CacheDecode(launch, shape, step);
  if (shape.packing != Packing::kNone) return DensePackedDecode(launch, shape, step);
  return persistent::RunRows<CacheCode::kPlain>(launch, shape, step);
}

}  // namespace dsopt_cuda
