// launch.h - every kernel of the plugin as a host function: geometry and launch, no allocation, no wait.
// Pointers are device memory unless said otherwise. Each returns the CUDA status of its launch.
// "T" is the program's activation type: bf16 in FAST programs, f32 in REFERENCE ones (out_bf16 / bf16 flags).
#ifndef DSOPT_CUDA_LAUNCH_H_
#define DSOPT_CUDA_LAUNCH_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "device.h"
#include "dsopt/backend.h"
#include "weight.h"

namespace dsopt_cuda {

struct Launch {
  cudaStream_t stream;
  const Limits* limits;
};
// Words between the flags or counters by which CTAs wait for each other: each has a line of its own.
inline constexpr int kFlagStride = 32;

// Loads a kernel. usable: code for this GPU exists; code_arch: what it was written for, which may be older than the GPU;
// sm90a: also the code that needs sm_90a.
cudaError_t ProbeKernels(bool* usable, int* code_arch, bool* sm90a);

// ---- weights (fill.cu) ------------------------------------------------------------------------------
cudaError_t FillWeight(cudaStream_t stream, Elem elem, Elem written, const WeightLayout& layout, uint64_t seed,
                       float mean, float stddev, void* data);
cudaError_t ScatterTransposed(cudaStream_t stream, Elem elem, const void* src, uint64_t first, uint64_t count,
                              const WeightLayout& layout, void* data);
// Reads `bytes` of memory once with configuration `variant`; kReadVariants of them.
inline constexpr int kReadVariants = 4;
cudaError_t ReadMemory(const Launch& launch, int variant, const void* data, uint64_t bytes, uint32_t* sink);

// ---- element-wise (elementwise.cu) ------------------------------------------------------------------
cudaError_t Embed(const Launch& launch, const void* table, Elem elem, const int* tokens, int rows, int hidden,
                  float scale, float* x);
// Rows as a row image, for kernels that take all rows of some columns in one copy: chunks of 256 columns one after the
// other, each with the rows rounded up to 8 (what lies between and behind is anything).
//   lines   `pitch` elements from a row to the next. Element (row, column): row * row_stride + column / 256 *
//           chunk_stride + column % 256; row-major rows are the same with a chunk stride of 256.
//   tiled   a chunk is 4 tiles of 64 columns: K-major matrices of wgmma (common/wgmma.cuh), columns in the order of
//           packed.h's codes. Columns 2 i and 2 i + 1 lie beside each other, no more.
inline constexpr int kImageColumns = 256;
// Pitches without bank conflicts: for LinearPacked, whose lanes load 16 bytes of rows that follow each other; for
// LinearPlain, which loads matrices of 8 rows. kTiledPitch says that an image is tiled.
inline constexpr int kPackedPitch = kImageColumns + 32, kPlainPitch = kImageColumns + 8, kTiledPitch = kImageColumns;
constexpr int64_t ImageChunk(int rows, int pitch) { return static_cast<int64_t>((rows + 7) / 8 * 8) * pitch; }
constexpr int64_t ImageElements(int rows, int columns, int pitch) {
  return ImageChunk(rows, pitch) * ((columns + kImageColumns - 1) / kImageColumns);
}
struct RowLayout {
  int64_t row_stride, chunk_stride;
  bool tiled;
  static RowLayout Plain(int64_t columns) { return {columns, kImageColumns, false}; }
  static RowLayout Image(int rows, int pitch) { return OfChunk(pitch, ImageChunk(rows, pitch)); }
  DSOPT_HOST_DEVICE static RowLayout OfChunk(int pitch, int64_t chunk_stride) {
    return {pitch == kTiledPitch ? kTileColumns : pitch, chunk_stride, pitch == kTiledPitch};
  }
  DSOPT_HOST_DEVICE int64_t At(int64_t row, int column) const {
    const int64_t chunk = row * row_stride + column / kImageColumns * chunk_stride;
    const int c = column % kImageColumns;
    return chunk + (tiled ? c / kTileColumns * (chunk_stride / kChunkTiles) + InTiledLine(static_cast<int>(row), c) : c);
  }
  // Of a column in its line of 64: packed.h's step, register pair, lane and half of the column are bits 5-4, 3, 2-1 and
  // 0 of its place in the order of the products; the swizzle moves pieces of 8.
  DSOPT_HOST_DEVICE static int InTiledLine(int row, int column) {
    const int piece = column % kTileColumns / 32 * 4 + column % 8 / 2;
    return ((piece ^ row % 8) << 3) + column % 32 / 8 * 2 + column % 2;
  }
};

struct NormArgs {
  const float* in;
  int64_t in_stride;
  const int* row_list;   // null: row r reads row r; else row_list[r]
  const float* gain;
  float eps;
  int rows, cols;
  void* out;             // [rows, cols], T
  RowLayout out_layout;
  bool out_bf16;
  float* out_f32;        // second copy in f32, row-major, or null
};
cudaError_t RmsNorm(const Launch& launch, const NormArgs& args);
// out[r, i] = act(in[r, 2 i]) * in[r, 2 i + 1], bf16 both.
cudaError_t GateUpPairs(const Launch& launch, const void* in, int rows, int inner, bool gelu, void* out,
                        int64_t out_stride);

struct RopeArgs {
  const float* inv_freq;
  int dim;
  bool interleaved;
  float scale;
};
// How keys and values are written: see dsopt_program_desc. kPlain: f32 or bf16.
enum class CacheCode : uint8_t { kPlain, kFp8, kInt8, kInt4 };
// Where rows find their cache.
struct CacheArgs {
  char* base;               // cache + cache_offset of the layer
  uint64_t page_bytes;
  const int* page_table;    // [seqs, page_stride]
  int page_stride;
  const int* positions;     // [rows]
  const int* row_seq;       // [rows]
  bool bf16;
  CacheCode code;           // not kPlain: bf16 is false
};
inline constexpr int kPageTokens = 64;

// q = rope(qkv[:q]) as bf16 or f32; k = rope, v appended to the cache.
struct AppendArgs {
  const float* qkv;         // [rows, (q_heads + 2 kv_heads) head_dim]
  int rows, q_heads, kv_heads, head_dim;
  RopeArgs rope;
  CacheArgs cache;
  void* q;                  // [rows, q_heads head_dim]
  bool q_bf16;
};
cudaError_t RopeAppend(const Launch& launch, const AppendArgs& args);

struct MlaPrepareArgs {
  const float* a;           // down projection; the latent part starts at a + latent_at of a row
  int64_t a_stride;
  int latent_at;
  const float* q;           // [rows] x q_stride, heads x (nope | rope)
  int64_t q_stride;
  const float* latent_norm;
  float latent_eps;
  int rows, heads, nope, latent, rope_dim;
  RopeArgs rope;
  CacheArgs cache;
  void* q_nope;             // [rows, heads, nope], T
  void* q_cat;              // [rows, heads, latent + rope_dim], T: only the rope part is written
  bool bf16;
};
cudaError_t MlaPrepare(const Launch& launch, const MlaPrepareArgs& args);

// ---- linear -----------------------------------------------------------------------------------------
enum class Epilogue : uint8_t {
  kStore = 0,     // out = y, as bf16 or f32
  kAdd = 1,       // out += y, f32
  kGateUp = 2,    // out[:, i] = act(y[2 i]) * y[2 i + 1], as bf16 or f32
};
// y = in W^T + bias for `rows` rows and `batch` independent products, or one row per slot of a mixture.
struct LinearArgs {
  const void* weight;
  Elem elem;
  int n, k;                   // W is [n, k]
  int64_t weight_stride;      // elements, per batch entry or expert
  const void* in;             // T
  int64_t in_row_stride, in_batch_stride;
  int image_pitch;            // LinearPacked, LinearPlain: `in` is RowLayout::Image(rows, image_pitch); 0: row-major
  void* out;
  int64_t out_row_stride, out_batch_stride;
  int64_t out_chunk_stride = kImageColumns;  // bf16 outputs of LinearPacked and LinearPlain; others are row-major
  bool out_tiled = false;                    // likewise: see RowLayout
  const float* bias;          // [n], or null; kGateUp: of the gates, then of the ups
  int rows, batch;
  Epilogue epilogue;
  bool gelu;
  bool bf16;                  // T of in, and of out where the epilogue stores T
  bool out_f32;               // kStore: out is f32 whatever T is
  // Mixture: row r is slot r, its weights are expert slot_expert[r], its input row is r / in_div.
  const int* slot_expert;     // null: no mixture
  int in_div;
  // Many slots: sorted by expert in tiles of kGroupRows (see MoeSort).
  const int* sorted_slots;    // null: slot by slot
  const int4* tiles;          // expert, first index into sorted_slots, count; count 0: nothing
  int max_tiles;
  // LinearGemv only: the input is rmsnorm(norm_in) instead of in.
  const float* norm_in;       // [k] f32, or null
  const float* norm_gain;
  float norm_eps;
  const PackedWeight* packed; // host memory; encoded weights: then elem is kPacked and weight is not used
};
inline constexpr int kGroupRows = 64;
inline constexpr int kSkinnyRows = 64;
cudaError_t LinearReference(const Launch& launch, const LinearArgs& args);  // f32 activations, any weights
bool GemvSupported(const Limits& limits, const LinearArgs& args);
cudaError_t LinearGemv(const Launch& launch, const LinearArgs& args);       // bf16, one row or few slots
cudaError_t LinearSkinny(const Launch& launch, const LinearArgs& args);     // bf16, rows <= kSkinnyRows
cudaError_t LinearTiles(const Launch& launch, const LinearArgs& args);      // bf16, any rows; sorted mixtures
// bf16 inputs, encoded weights, any rows, slots and sorted mixtures. partial: PackedPartialFloats; arrived:
// PackedCounters words, zero between launches.
bool PackedSupported(const Limits& limits, const PackedLayout& layout);
uint64_t PackedPartialFloats(const Limits& limits);
uint64_t PackedCounters(const Limits& limits);
// 17 to 64 rows as a tiled row image (kTiledPitch): products on wgmma.
bool PackedTiledSupported(const Limits& limits, const LinearArgs& args);
cudaError_t LinearPacked(const Launch& launch, const LinearArgs& args, float* partial, uint32_t* arrived);
// bf16 weights, 2 to 32 rows as a row image of pitch kPlainPitch; partial and arrived as above.
bool PlainFits(const Limits& limits);  // the kernel exists for this GPU
bool PlainSupported(const Limits& limits, const LinearArgs& args);
cudaError_t LinearPlain(const Launch& launch, const LinearArgs& args, float* partial, uint32_t* arrived);

// ---- pages (stage_pages.cu) -------------------------------------------------------------------------
struct StageArgs {
  const char* base;         // of the layer in page 0
  uint64_t page_bytes, layer_bytes;  // from a page to the next; of the layer in a page, a multiple of 16
  const int* table;         // of the sequence
  int first, end;           // of its pages
  char* staged;             // [end, layer_bytes]
  int* places;              // [end]
};
cudaError_t StagePages(const Launch& launch, const StageArgs& args);

// ---- attention --------------------------------------------------------------------------------------
struct AttentionArgs {
  const void* q;            // [rows, q_heads, q_dim]
  bool q_bf16;
  void* out;                // [rows, q_heads, v_dim]
  bool out_bf16;
  RowLayout out_layout;     // AttentionDecode; others write row-major
  int rows, q_heads, kv_heads, q_dim, v_dim;
  int window;
  float scale;
  CacheArgs cache;
  int64_t token_stride;     // elements between tokens of a head inside a page
  int64_t head_stride;      // elements between KV heads inside a page
  int64_t value_offset;     // elements from the keys of a page to its values
  // Work lists, made on the host.
  const int* decode_rows;   // rows to be done one by one
  int decode_count;
  int longest_decode;       // most keys of any of them
  int fresh;                // AttentionDecode, AttentionMla: of what they read, kernels since the upload of the batch have
                            // written q and the keys of so many last tokens of a row (latent: of the batch's rows),
                            // nothing else: not the lists, not the page table. 0: anything
  const int4* tiles;        // first row, rows, first position; one sequence each
  int tile_count;
  float* partial;           // scratch of DecodePartialFloats
  uint32_t* arrived;        // DecodeCounters, or MlaCounters; zero between launches
};
inline constexpr int kPrefillRows = 128;
cudaError_t AttentionReference(const Launch& launch, const AttentionArgs& args);
bool AttentionSupported(int head_dim);
// Decode attention takes so many query heads of a KV head at a time, larger groups in so many parts.
inline constexpr int kDecodeHeads = 8;
inline int DecodeParts(int q_heads, int kv_heads) {
  return (q_heads / kv_heads + kDecodeHeads - 1) / kDecodeHeads;
}
cudaError_t AttentionDecode(const Launch& launch, const AttentionArgs& args);
cudaError_t AttentionPrefill(const Launch& launch, const AttentionArgs& args);
// longest: most keys of a row.
bool DecodeRingSupported(const Limits& limits, CacheCode code, int rows, int q_heads, int kv_heads, int longest);
cudaError_t AttentionDecodeRing(const Launch& launch, const AttentionArgs& args);
uint64_t DecodeRingCounters(const Limits& limits);
uint64_t DecodePartialFloats(const Limits& limits, int max_rows, int q_heads, int kv_heads, int head_dim);
uint64_t DecodeCounters(const Limits& limits, int max_rows, int q_heads, int kv_heads);
// Latent attention, q and out bf16, any cache but f32: 64 (row, head) pairs per tile.
bool MlaSupported(const Limits& limits, int heads, int latent, int rope_dim);
cudaError_t AttentionMla(const Launch& launch, const AttentionArgs& args);
uint64_t MlaPartialFloats(const Limits& limits, int heads, int latent);
uint64_t MlaCounters(const Limits& limits);

// ---- mixture (moe.cu) -------------------------------------------------------------------------------
struct RouteArgs {
  const float* h;           // [rows, hidden]
  const float* router;      // [experts, hidden]
  int rows, hidden, experts, top_k, groups, top_groups;
  bool renormalise;
  float route_scale;
  float* logits;            // [rows, experts] scratch
  int* slot_expert;         // [rows, top_k]
  float* slot_weight;       // [rows, top_k]
  // One row only: h is not normalised yet; the last CTA to arrive chooses (counter is zero between launches).
  const float* norm_gain;   // null: h is normalised
  float norm_eps;
  uint32_t* arrived;
};
struct MoeDecodeArgs {
  float* x;                 // [hidden], normalised on the way in, added to
  const float* norm_gain;
  float norm_eps;
  const void *gate_up, *down, *shared_gate_up, *shared_down;  // bf16
  int hidden, inner, shared_inner, top_k;
  bool gelu;
  const int* slot_expert;
  const float* slot_weight;
  void* mid;                // [top_k * inner + shared_inner] bf16 scratch
};
bool MoeDecodeSupported(const Limits& limits, const MoeDecodeArgs& args);
cudaError_t MoeDecode(const Launch& launch, const MoeDecodeArgs& args);  // one row, after Route
cudaError_t Route(const Launch& launch, const RouteArgs& args);
// Slots by expert, cut into tiles of at most kGroupRows.
cudaError_t MoeSort(const Launch& launch, const int* slot_expert, int slots, int experts, int* sorted_slots,
                    int4* tiles, int max_tiles);
// x[r] += sum_k weight[r, k] * y[r top_k + k]
cudaError_t MoeCombine(const Launch& launch, const float* y, const float* slot_weight, int rows, int hidden,
                       int top_k, float* x);

// ---- sampling (sampling.cu) -------------------------------------------------------------------------
struct SampleArgs {
  float* logits;            // [count, vocab]; changed and put back
  int count, vocab;
  const dsopt_sample_row* rows;
  const int* adjust_tokens;
  const float* adjust_bias;
  const int* history_tokens;
  const uint32_t* history_counts;
  float* saved;             // [max_adjust + max_history]
  int history_base;         // index of the history part in saved
  float4* partial;          // [count, kSampleParts]
  int* tokens;              // results: mapped host memory
  float* logprobs;
  int* top_tokens;
  float* top_logprobs;
};
inline constexpr int kSampleParts = 32;
cudaError_t Sample(const Launch& launch, const SampleArgs& args);

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_LAUNCH_H_
