// batch_producer.cuh - the two lanes that fill the ring of the persistent step of few rows. Both walk through
// the same slots: one copies weights and cached tokens, which nothing in the step changes, as soon as a slot is
// free; the other copies inputs, once the operation that makes them has ended everywhere.
#ifndef DSOPT_CUDA_PERSISTENT_BATCH_PRODUCER_CUH_
#define DSOPT_CUDA_PERSISTENT_BATCH_PRODUCER_CUH_

#include "persistent/batch_shape.cuh"

namespace dsopt_cuda::batch {

#ifdef DSOPT_CUDA_WGMMA

// The units of a product that this CTA has.
struct Units {
  int left, panel, unit;
  __device__ Units(const StreamGeometry& g, int number) : Units(StreamWork(g, number)) {}
  __device__ explicit Units(const StreamWork& work) {
    const int begin = static_cast<int>(work.StartOf(work.cta));
    left = static_cast<int>(work.StartOf(work.cta + 1)) - begin;
    panel = static_cast<int>(static_cast<uint32_t>(begin) / static_cast<uint32_t>(work.per_group));
    unit = begin - panel * work.per_group;
  }
};

// What a lane does in each operation of the step, in their order.
template <typename Lane>
__device__ __forceinline__ void ForEachOperation(const BatchStep& s, Lane& my) {
#pragma unroll 1
  for (int layer = 0; layer < s.layer_count; ++layer)
#pragma unroll 1
    for (int op = 0; op < kOps; ++op) {
      if (op == kAttention)
        my.Attention(layer);
      else
        my.Product(layer, op);
    }
}

// F: how weights lie and are copied, see persistent_batch_<format>.cu.
template <typename F>
struct WeightsLane {
  const BatchStep& s;
  const Line& line;
  BatchRing<typename F::S> ring, landed = ring;
  int flying = 0;  // copies of slots on their way
  uint64_t policy = EvictFirst();

  // Makes the next slot ours. `since`: slots since the operation began: near its beginning few copies are on
  // their way, because what CTAs wait for then queues behind them.
  __device__ void Acquire(int since) {
    const int most = since < s.slots ? s.near_copies : s.deep_copies;
    BarrierWait(ring.Empty(), ring.parity ^ 1);
#pragma unroll 1
    for (; flying >= most; --flying, landed.Advance()) BarrierWait(landed.Weights(), landed.parity);
    ++flying;
  }
  __device__ void Product(int layer, int op) {
    const StreamGeometry& g = s.linear[MatrixOf(op)].geometry;
    Units at(g, NumberOf(s, layer, op));
    if (at.left == 0) return;
    const void* matrix = s.layers[layer].matrices[MatrixOf(op)].data;
    const int per_group = g.units_per_group;
#pragma unroll 1
    for (int since = 0; since < at.left; ++since) {
      Acquire(since);
      F::Copy(g, matrix, at.panel, at.unit, ring.Slot(), ring.Weights(), policy);
      ring.Advance();
      if (++at.unit == per_group) {
        at.unit = 0;
        ++at.panel;
      }
    }
  }
  // A page's number in the table is on its way while the slot before is waited for: a round has to do with two
  // items.
  __device__ void Attention(int layer) {
    const auto [begin, end] = line.RangeOf(NumberOf(s, layer, kAttention));
    const char* base = s.cache.base + s.layers[layer].cache_offset;
    if (begin >= end) return;
    const int line_bytes = s.head_dim * 2;
    int row = 0, page = 0, in_page = 0;
    uint32_t bytes = 0;
#pragma unroll 1
    for (int at = begin; at <= end; ++at) {
      const char* k = base + static_cast<uint64_t>(page) * s.cache.page_bytes + in_page;
      const uint32_t count = bytes;
      if (at < end) {
        const Place place(line, at, row);
        row = place.row;
        const int token = line.TokenOf(s, place);
        page = __ldg(s.cache.page_table + static_cast<int64_t>(s.cache.row_seq[row]) * s.cache.page_stride +
                     token / kPageTokens);
        in_page = (place.work / s.parts * kPageTokens + token % kPageTokens) * line_bytes;
        bytes = static_cast<uint32_t>(
            (min(max(line.position[row] - token, 1), s.item_tokens) + 15) / 16 * 16 * line_bytes);
      }
      if (at == begin) continue;
      Acquire(at - 1 - begin);
      const uint32_t barrier = ring.Weights();
      BarrierExpect(barrier, 2 * count);
      // Rows may share pages, and parts of a large group of heads do.
      BulkLoad(ring.Slot(), k, count, barrier);
      BulkLoad(ring.Slot() + s.item_tokens * line_bytes,
               k + static_cast<int64_t>(s.kv_heads) * kPageTokens * line_bytes, count, barrier);
      ring.Advance();
    }
  }
  __device__ void Run() { ForEachOperation(s, *this); }
};

// Attention's inputs do not come through the ring: its slots are full when they are there.
template <typename F>
struct InputsLane {
  const BatchStep& s;
  const Line& line;
  BatchRing<typename F::S> ring;

  __device__ void Await(int layer, int op) const {
    while (!InputReady(s, layer, op)) {
    }
    FenceAsyncGlobal();
    BarrierArrive(ring.Ready());
  }
  __device__ void Product(int layer, int op) {
    const StreamLinear& p = s.linear[MatrixOf(op)];
    Units at(p.geometry, NumberOf(s, layer, op));
    if (at.left == 0) return;
    const int last = p.geometry.units_per_group - 1;
    const uint32_t bytes = F::kUnitChunks * p.geometry.input_chunk, last_bytes = p.geometry.last_input_bytes;
    const uint32_t to = p.geometry.inputs_at;
    const char *first = static_cast<const char*>(p.args.in),
               *from = first + static_cast<int64_t>(at.unit) * bytes;
    Await(layer, op);
#pragma unroll 1
    for (; at.left > 0; --at.left) {
      BarrierWait(ring.Empty(), ring.parity ^ 1);
      const uint32_t count = at.unit == last ? last_bytes : bytes;
      BarrierExpect(ring.Inputs(), count);
      BulkLoad(ring.Slot() + to, from, count, ring.Inputs());
      ring.Advance();
      from += bytes;
      if (++at.unit > last) {
        at.unit = 0;
        from = first;
      }
    }
  }
  __device__ void Attention(int layer) {
    const auto [begin, end] = line.RangeOf(NumberOf(s, layer, kAttention));
    int left = end - begin;
    if (left == 0) return;
    Await(layer, kAttention);
#pragma unroll 1
    for (; left > 0; --left) {
      BarrierWait(ring.Empty(), ring.parity ^ 1);
      BarrierArrive(ring.Inputs());
      ring.Advance();
    }
  }
  __device__ void Run() { ForEachOperation(s, *this); }
};

#endif

}  // namespace dsopt_cuda::batch
#endif  // DSOPT_CUDA_PERSISTENT_BATCH_PRODUCER_CUH_
