// kernels.h - the innermost loops, one table per instruction set. The operators above call nothing else that
// depends on the machine. Types only: the files that fill the tables are compiled with wide instruction sets,
// so nothing inline may be shared with ordinary code.
#ifndef DSOPT_CPU_ISA_KERNELS_H_
#define DSOPT_CPU_ISA_KERNELS_H_

#include <stddef.h>
#include <stdint.h>

namespace dsopt_cpu {

constexpr uint32_t kTileRows = 64;     // outputs in one packed weight tile
constexpr uint32_t kMicroRows = 6;     // most activation rows that one call of a linear kernel takes
constexpr uint32_t kPageTokens = 64;   // positions of a cache page
constexpr uint32_t kSpanTokens = 256;  // positions that one partial softmax covers, at absolute multiples

// How numbers lie in memory. The value indexes Kernels::linear.
enum Storage : uint32_t { kF32 = 0, kF16 = 1, kBf16 = 2 };

enum LinearFlag : uint32_t {
  kAccumulate = 1,  // continue the sums already in acc
};

// acc[r][0..63] (row stride ld floats) = sum over k of tile[k][0..63] * in[r][k], r < rows <= kMicroRows.
// One chain of multiply-adds per output, k ascending, the same for every number of rows: a row's result never
// depends on its neighbours. Tiles: BF16 [steps][64][2] (pairs of k), F16 and F32 [steps][64].
using LinearFn = void (*)(const void* tile, uint32_t steps, const void* const* in, uint32_t rows, float* acc,
                          uint32_t ld, uint32_t flags);

// Weights of fewer bits, packed. A tile is a run of blocks of group_steps steps of kCodeStepInputs values of k; the last
// block may be shorter. A block is a head and then its steps:
//   head  LOSSLESS12: 64 base exponents, a byte each. Others: 64 scales, then 64 offsets if there are any; f16 or f32
//   step  INT8        bytes [o][k % 4]: the code + 128
//         INT4        two halves o / 32 of bytes [o % 16][k % 4]; code of o in the low four bits if o / 16 is even, else
//                     in the high ones
//         FP8         two halves o / 32 of words [o % 16][k % 2]; code of o in the low byte if o / 16 is even, else in
//                     the high one
//         LOSSLESS12  words [o % 16][k % 2], holding in bits 4 (o / 16) .. + 3 the exponent less the base, or 0: then the
//                     exponent is 0. Two halves as FP8, holding sign and mantissa: of o / 16 even in bit 15 and bits
//                     0 .. 6, else in bit 14 and bits 7 .. 13
enum Code : uint32_t { kInt8 = 0, kFp8 = 1, kInt4 = 2, kLossless12 = 3, kCodeCount = 4 };
constexpr uint32_t kCodeStepBytes[kCodeCount] = {256, 128, 128, 192};
constexpr uint32_t kCodeStepInputs[kCodeCount] = {4, 2, 4, 2};

// A row of activations in fixed point: x[k] = scale * (256 high + low), high and low signed bytes, so that a row's
// largest value has 15 bits. f32 scale; at kFixedTotal the sums of all high and of all low, two int32; at kFixedHead those
// of every 16 values; at FixedQuads(count) for every four values four high bytes, then four low ones. Zeros behind the
// last value. A row with a value that is not finite has the scale NaN. Rows of more than kFixedInputs: the sums of all are
// not used. Where there are no dot products of bytes: instead of two sums that of 256 high + low, then 4 bytes of
// anything, and instead of 8 bytes 4 words, 256 high + low of values 0, 2, 1 and 3.
constexpr uint32_t kFixedTotal = 8;
constexpr uint32_t kFixedHead = 64;
constexpr float kFixedMost = 32512.0f;        // 127 * 256
constexpr uint64_t kFixedInputs = 64 << 10;   // most inputs of a group: sums stay inside 32 bits
static constexpr uint64_t FixedQuads(uint64_t count) { return kFixedHead + ((count + 15) / 16 * 8 + 63) / 64 * 64; }
static constexpr uint64_t FixedBytes(uint64_t count) { return FixedQuads(count) + (count + 15) / 16 * 32; }

// A cache of fewer bits: see dsopt_program_desc. The value indexes Kernels::load_coded_keys.
enum CacheCode : uint32_t { kCacheFp8 = 0, kCacheInt8 = 1, kCacheInt4 = 2, kPlainCache = 3 };
constexpr uint32_t kCacheGroup = 32;  // values of INT4 that share a word

// The coded vectors of one head in one page, one for each position. Readable for 64 bytes behind every code.
struct CodedVectors {
  CacheCode code;
  uint32_t values;
  const uint8_t* codes;
  uint64_t code_stride;  // bytes
  const uint8_t* words;
  uint64_t word_stride;
};

// A bf16 weight that LOSSLESS12 cannot say.
struct Escape {
  uint32_t step;   // of its tile
  uint16_t place;  // 2 o + k % 2
  uint16_t bits;
};

struct CodedTile {
  const uint8_t* data;
  uint32_t inputs, steps, group_steps;
  uint32_t half_scales;   // f16, else f32
  uint32_t offsets;       // there are some
  const Escape* escapes;  // of this tile, by step
  uint32_t escape_count;
};

// acc[r][0..63] = sum over groups of (sum over k of code * in[r][k]) * scale + offset * sum over k of in[r][k];
// LOSSLESS12: as LinearFn does with the bf16 values, to the bit. One chain per output, the same for every
// number of rows <= kMicroRows.
using CodedFn = void (*)(const CodedTile& tile, const void* const* in, uint32_t rows, float* acc);

enum EpilogueKind : uint32_t {
  kStoreSum,  // out = acc + bias
  kAddSum,    // out += acc + bias, f32 only
  kGate,      // out[0..31] = act(acc[0..31] + bias) * (acc[32..63] + bias_up)
};

struct Epilogue {
  EpilogueKind kind;
  Storage out;        // kF32 or kBf16
  uint32_t gelu;      // kGate: 1 gelu (tanh form), 0 silu
  uint32_t columns;   // valid outputs of this tile, <= 64 (kGate: <= 32)
  const float* bias;  // at the tile's first column; NULL: none. Readable for 64 floats
  const float* bias_up;
};

struct Kernels {
  const char* name;
  uint32_t arch;        // dsopt_device_info.arch
  uint64_t unit_flops;  // arithmetic that takes one core about 50 us
  uint32_t micro_rows;  // rows of one linear call that run best, <= kMicroRows

  LinearFn linear[3];              // f32 activations, by Storage of the weights
  LinearFn linear_bf16;            // bf16 activations and bf16 weights; NULL: not in this instruction set
  CodedFn coded[kCodeCount];       // f32 activations
  CodedFn coded_bf16[kCodeCount];   // bf16 activations; NULL with linear_bf16, and where there is:
  CodedFn coded_fixed[kCodeCount];  // activations in fixed point; NULL: not of this code, or not in this instruction set
  void (*to_fixed)(const float* x, uint32_t count, uint8_t* row);  // NULL with coded_fixed
  // acc [rows][64]; out[r] points at the tile's first output of row r.
  void (*epilogue)(const Epilogue& e, const float* acc, uint32_t rows, void* const* out);

  // dst = x * rsqrt(mean(x^2) + eps) * gain; f32 and/or bf16 (NULL: not wanted); zeros up to padded values.
  void (*rms_norm)(const float* x, const float* gain, float eps, uint32_t count, uint32_t padded, float* dst,
                   uint16_t* dst_bf16);
  void (*convert)(const float* src, uint32_t count, Storage storage, void* dst);  // kF32 or kBf16

  // Attention. A page of keys [64][kd] at row stride `stride` values becomes kt [kd][64] f32; a page of values
  // becomes v [vd / 64][64][64] f32, zero outside of tokens [first, last) and columns >= vd.
  void (*load_keys)(const void* src, Storage storage, uint32_t stride, uint32_t kd, float* kt);
  void (*load_values)(const void* src, Storage storage, uint32_t stride, uint32_t vd, uint32_t first,
                      uint32_t last, float* v);
  // The same of a coded cache, by CacheCode: into kt [values][64], and v.
  void (*load_coded_keys[3])(const CodedVectors& src, float* kt);
  void (*load_coded_values[3])(const CodedVectors& src, uint32_t first, uint32_t last, float* v);
  // A page of bf16 for linear_bf16: values paired by token, [vd / 64][32][64][2]. NULL with linear_bf16. (Keys:
  // pack16.)
  void (*pair_values)(const uint16_t* src, uint32_t stride, uint32_t vd, uint32_t first, uint32_t last,
                      uint32_t* v);
  // s[j] = exp(s[j] - m) inside [first, last), 0 elsewhere below end; m: the maximum, l: the sum.
  void (*softmax_span)(float* s, uint32_t first, uint32_t last, uint32_t end, float* m, float* l);
  // (m, l, o) = the softmax state after one more partial; both o have count values.
  void (*merge)(float* ml, float* o, const float* part_ml, const float* part_o, uint32_t count);
  // dst = o / l
  void (*finish)(const float* o, float l, uint32_t count, Storage storage, void* dst);

  // Head. NaN counts as -inf in both.
  void (*max)(const float* x, uint32_t count, float* max);
  double (*sum_exp)(const float* x, uint32_t count, float max);  // sum exp(x - max)
  void (*exp_scaled)(const float* x, uint32_t count, float max, float inv_t,
                     float* dst);  // exp((x - max) inv_t)

  void (*axpy)(float* y, const float* x, float a, uint32_t count);  // y += a * x
  // dst[p * 64 + r] = src row r, word p; 16 rows at stride src_words.
  void (*pack16)(const uint32_t* src, size_t src_stride_bytes, uint32_t words, uint32_t* dst);
  uint64_t (*read)(const void* src, size_t bytes, uint32_t method);  // sums memory; for measure_read
};

// Best table of the machine that is at most `variant` (NULL: no limit); NULL: the name is unknown.
const Kernels* SelectKernels(const char* variant);
const Kernels* KernelsScalar();
const Kernels* KernelsAvx2();
const Kernels* KernelsAvx2Vnni();
const Kernels* KernelsAvx512();
const Kernels* KernelsAvx512Vnni();
const Kernels* KernelsAvx512Bf16();

}  // namespace dsopt_cpu
#endif  // DSOPT_CPU_ISA_KERNELS_H_
