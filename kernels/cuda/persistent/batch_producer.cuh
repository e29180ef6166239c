// batch_producer.cuh - the lane that fills the ring of the persistent step of few rows. Two cursors walk through the
// same slots: one copies weights and cached tokens, which nothing in the step changes, as soon as a slot is free; the
// other copies inputs, once the operation that makes them has ended everywhere.
#ifndef DSOPT_CUDA_PERSISTENT_BATCH_PRODUCER_CUH_
#define DSOPT_CUDA_PERSISTENT_BATCH_PRODUCER_CUH_

#include "persistent/batch_shape.cuh"

namespace dsopt_cuda::batch {

#ifdef DSOPT_CUDA_WGMMA

// What this CTA does, slot by slot.
struct Cursor {
  const BatchStep& s;
  const Line& line;
  BatchRing ring;
  int layer = 0, op = kQkv, left = 0;  // left: slots of the operation
  int unit = 0, panel = 0;             // of a product
  int at = 0, row = 0;                 // of attention: place in the line

  __device__ bool done() const { return layer == s.layer_count; }
  __device__ void Begin() {
    Enter();
    Settle();
  }
  __device__ void Enter() {
    const int number = NumberOf(s, layer, op);
    if (op == kAttention) {
      at = line.Start(number);
      left = line.Start(number + 1) - at;
      row = 0;
      return;
    }
    const StreamWork work(s.linear[MatrixOf(op)].geometry, 1, number);
    const int64_t begin = work.StartOf(number);
    left = static_cast<int>(work.StartOf(number + 1) - begin);
    panel = static_cast<int>(begin / work.per_group);
    unit = static_cast<int>(begin % work.per_group);
  }
  // On to an operation of which this CTA has a part.
  __device__ void Settle() {
    while (left == 0) {
      if (++op == kOps) {
        op = kQkv;
        if (++layer == s.layer_count) return;
      }
      Enter();
    }
  }
  // True: another operation has begun.
  __device__ bool Next() {
    ring.Advance();
    if (--left == 0) {
      Settle();
      return true;
    }
    if (op == kAttention) {
      ++at;
    } else if (++unit == s.linear[MatrixOf(op)].geometry.units_per_group) {
      unit = 0;
      ++panel;
    }
    return false;
  }
};

// F: how weights lie and are copied, see batch_formats.cuh.
template <typename F>
struct Producer {
  const BatchStep& s;
  const Line& line;
  Cursor weights, inputs;
  BatchRing landed;
  int flying = 0, since = 0;  // copies of slots on their way; slots since the operation began
  int behind = 0;             // slots that have weights and no inputs
  uint64_t policy = EvictFirst();
  DenseMatrix matrix{};
  int page = 0;               // of the next item
  bool ready = false;         // the inputs of inputs.op are there

  __device__ Producer(const BatchStep& step, const Line& the_line, const BatchRing& ring)
      : s(step), line(the_line), weights{step, the_line, ring}, inputs{step, the_line, ring}, landed(ring) {}

  __device__ void Run() {
    weights.Begin();
    inputs.Begin();
    LookAhead();
    while (!inputs.done()) {
      if (!weights.done() && MayCopy()) CopyWeights();
      if (behind > 0) {
        if (!ready && InputReady(s, inputs.layer, inputs.op)) {
          FenceAsyncGlobal();
          ready = true;
        }
        if (ready) CopyInputs();
      }
    }
  }

  // Few copies are on their way where an operation begins, because what CTAs wait for then queues behind them.
  __device__ bool MayCopy() {
    const int most = since < s.slots ? s.near_copies : s.deep_copies;
    while (flying > 0 && BarrierReady(landed.Weights(), landed.parity)) {
      --flying;
      landed.Advance();
    }
    return flying < most && BarrierReady(weights.ring.Empty(), weights.ring.parity ^ 1);
  }
  // What the next copy needs from memory is requested now.
  __device__ void LookAhead() {
    if (weights.done()) return;
    if (weights.op != kAttention) {
      if (since == 0) matrix = s.layers[weights.layer].matrices[MatrixOf(weights.op)];
      return;
    }
    const Place place(line, weights.at, weights.row);
    weights.row = place.row;
    const int token = TokenOf(place);
    page = __ldg(s.cache.page_table + static_cast<int64_t>(s.cache.row_seq[place.row]) * s.cache.page_stride +
                 token / kPageTokens);
  }
  // Of an item: its first one.
  __device__ int TokenOf(const Place& place) const {
    return (Line::First(s, line.position[place.row]) / s.item_tokens + place.item) * s.item_tokens;
  }
  __device__ void CopyWeights() {
    if (weights.op == kAttention)
      CopyItem();
    else
      F::Copy(s.linear[MatrixOf(weights.op)].geometry, matrix, weights.panel, weights.unit, weights.ring.Slot(),
              weights.ring.Weights(), policy);
    ++flying;
    ++behind;
    since = weights.Next() ? 0 : since + 1;
    LookAhead();
  }
  __device__ void CopyItem() const {
    const Place place(line, weights.at, weights.row);
    const int token = TokenOf(place), kv_head = place.work / s.parts, line_bytes = s.head_dim * 2;
    const int tokens = (min(max(line.position[place.row] - token, 1), s.item_tokens) + 15) / 16 * 16;
    const char* k = s.cache.base + s.layers[weights.layer].cache_offset +
                    static_cast<uint64_t>(page) * s.cache.page_bytes +
                    static_cast<int64_t>(kv_head * kPageTokens + token % kPageTokens) * line_bytes;
    const uint32_t bytes = static_cast<uint32_t>(tokens * line_bytes), barrier = weights.ring.Weights();
    BarrierExpect(barrier, 2 * bytes);
    // Rows may share pages, and parts of a large group of heads do.
    BulkLoad(weights.ring.Slot(), k, bytes, barrier);
    BulkLoad(weights.ring.Slot() + s.item_tokens * line_bytes,
             k + static_cast<int64_t>(s.kv_heads) * kPageTokens * line_bytes, bytes, barrier);
  }
  __device__ void CopyInputs() {
    const uint32_t barrier = inputs.ring.Inputs();
    if (inputs.op == kAttention) {
      BarrierArrive(barrier);
    } else {
      const StreamLinear& p = s.linear[MatrixOf(inputs.op)];
      const StreamGeometry& g = p.geometry;
      const uint32_t bytes =
          inputs.unit + 1 == g.units_per_group ? g.last_input_bytes : F::kUnitChunks * g.input_chunk;
      BarrierExpect(barrier, bytes);
      BulkLoad(inputs.ring.Slot() + g.inputs_at,
               static_cast<const char*>(p.args.in) + static_cast<int64_t>(inputs.unit) * F::kUnitChunks * g.input_chunk,
               bytes, barrier);
    }
    --behind;
    if (inputs.Next()) ready = false;
  }
};

#endif

}  // namespace dsopt_cuda::batch
#endif  // DSOPT_CUDA_PERSISTENT_BATCH_PRODUCER_CUH_
