// coded.h - weights of fewer bits: where codes, scales and offsets of a tensor lie (isa/kernels.h draws a
// tile), and writing them there. What LOSSLESS12 needs beyond that: lossless.h.
#ifndef DSOPT_CPU_CODED_H_
#define DSOPT_CPU_CODED_H_

#include "weight.h"

namespace dsopt_cpu {

constexpr uint64_t kPackColumns = 128;    // a band: its bytes of a tile are its own, whatever the encoding
constexpr uint64_t kPackAlone = 1 << 14;  // elements that are packed before another thread has woken up

// body(row, column, count, at) for elements [first, first + count) of *w, piece by piece: `count` of them from
// `column` of a row (over all matrices) on, in one band; `at`: their place in what was written. Bands on
// different threads.
template <typename Body>
void ForEachPiece(const dsopt_be_weight& w, uint64_t first, uint64_t count, const Body& body) {
  const auto band = [&](uint64_t number, uint32_t) {
    const uint64_t left = number * kPackColumns, right = Min(left + kPackColumns, w.cols);
    for (uint64_t row = first / w.cols; row * w.cols < first + count; ++row) {
      const uint64_t begin = Max(row * w.cols + left, first), end = Min(row * w.cols + right, first + count);
      if (begin < end) body(row, begin - row * w.cols, end - begin, begin - first);
    }
  };
  const uint64_t bands = DivUp(w.cols, kPackColumns);
  if (count > kPackAlone) return w.device->pool->ForEach(bands, band);
  for (uint64_t number = 0; number < bands; ++number) band(number, 0);
}

// Fills everything of *w that depends on the encoding of d, which is not PLAIN. Kind, shape and name are set.
dsopt_status DescribeCoded(dsopt_be_device* device, const dsopt_weight_desc& d, dsopt_be_weight* w);

// Checked elements [first, first + count) of INT8, FP8 or INT4 codes, as weight_write brings them.
void PackCodes(dsopt_be_weight* w, uint64_t first, uint64_t count, const uint8_t* src);
dsopt_status WeightWriteScales(dsopt_be_weight* w, uint64_t first, uint64_t count, const float* scales,
                               const float* offsets);

// The value of one element, exactly.
float DecodeCode(const dsopt_be_weight* w, uint64_t matrix, uint64_t output, uint64_t input);
// DecodeCode of a whole row of an EMBEDDING, times scale.
void GatherCodedRow(const dsopt_be_weight* w, uint64_t row, float scale, float* dst);

// weight_fill: mean + stddev * n rounded to codes of one scale that covers all of n (coded_fill.cc).
dsopt_status FillCoded(dsopt_be_weight* w, uint64_t seed, float mean, float stddev);

// What the kernels take.
CodedTile ViewTile(const dsopt_be_weight* w, uint64_t matrix, uint64_t tile);

// Start of a step of a tile, and of the head of its block.
inline uint8_t* StepOf(const dsopt_be_weight* w, uint8_t* tile, uint64_t step) {
  const CodedForm& c = w->coded;
  return tile + step / c.group_steps * c.block_bytes + c.head_bytes +
         step % c.group_steps * kCodeStepBytes[c.code];
}
inline uint8_t* HeadOf(const dsopt_be_weight* w, uint8_t* tile, uint64_t block) {
  return tile + block * w->coded.block_bytes;
}
inline uint8_t* TileAt(const dsopt_be_weight* w, uint64_t matrix, uint64_t tile) {
  return w->data + matrix * w->matrix_bytes + tile * w->tile_bytes;
}

}  // namespace dsopt_cpu
#endif  // DSOPT_CPU_CODED_H_
