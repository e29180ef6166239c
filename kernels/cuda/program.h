// program.h - blocks, cache and workspace of one session, and the batch that is in flight.
//   plan.cc      checks a description, sizes everything (allocates nothing)
//   program.cc   creates and destroys
//   host_pages.cc  the pages of the cache that lie in host memory
//   batch.cc     begins, advances, cancels; pages
//   record.cc    turns blocks into kernel launches; record_linear.cc: which kernel a product gets
//   replay.cc    launches a batch that came before as one graph
//   persistent.cc  what of a program goes through a persistent kernel; record_persistent.cc: tables and launches
#ifndef DSOPT_CUDA_PROGRAM_H_
#define DSOPT_CUDA_PROGRAM_H_

#include "device.h"
#include "launch.h"
#include "persistent_batch.h"
#include "persistent_dense.h"
#include "persistent_latent.h"
#include "shared/check.h"
#include "weight.h"

namespace dsopt_cuda {

// Scratch of one block. All blocks share the same memory: only x lives from one to the next.
struct BlockBuffers {
  void* h = nullptr;           // normalised rows, T
  float* h32 = nullptr;        // the same in f32, for the router
  float* a = nullptr;          // qkv, or the MLA down projection
  void* q = nullptr;           // rotated q; MLA: q in f32
  void* q_low = nullptr;       // MLA: normalised low-rank q, T
  void* q_nope = nullptr;      // MLA, T
  void* q_cat = nullptr;       // MLA: absorbed q | rotated q, T
  void* context = nullptr;     // MLA: attention over latents, T
  void* attended = nullptr;    // input of the output projection, T
  void* wide = nullptr;        // gate and up before the activation (library products), bf16
  void* mid = nullptr;         // activated, T
  float* y = nullptr;          // expert outputs per slot
  float* route_logits = nullptr;
  int* slot_expert = nullptr;
  float* slot_weight = nullptr;
  int* sorted_slots = nullptr;
  int4* tiles = nullptr;
  int max_tiles = 0;
};

// Device (and pinned staging) layout of a batch's inputs; offsets in bytes from the start of the input buffer. They
// depend on counts only through the capacities below, so equal capacities give equal addresses.
struct InputLayout {
  uint64_t tokens, positions, row_seq, logit_rows, sample, adjust_tokens, adjust_bias, history_tokens, history_counts,
      decode_rows, tiles, page_table, end;
};
struct InputCounts {
  uint64_t rows, seqs, logit_rows, adjust, history, decode_rows, tiles, pages;  // pages: per sequence
};
InputLayout LayOutInput(const InputCounts& counts);

// Room for bf16 rows of an encoded matrix while a product with many input rows uses them.
inline constexpr uint64_t kUnpackedBytes = uint64_t{64} << 20;

// Steps of one row of one sequence go through one persistent kernel, where there is one for the program's shape. Steps
// with a row of each of several sequences, and those of one row of other shapes, have one for all layers (`batch_rows`).
enum class PersistentKind : uint8_t { kNone, kDense, kLatent };
struct PersistentPlan {
  PersistentKind kind = PersistentKind::kNone;
  DenseShape dense{};    // of kDense, which is: attention with heads of its own
  LatentShape latent{};  // of kLatent
  uint64_t layer_bytes = 0, counter_words = 0, activation_floats = 0, partial_floats = 0;  // activations: of one step
  uint64_t layers = 0, counters = 0, activations = 0, partial = 0;                         // offsets in the workspace
  uint64_t marked_bytes = 0;  // activations and partials, from `activations` on: all bits set at first
  int batch_rows = 0;  // steps of at most so many rows have a kernel for all layers; 0: none
  BatchShape batch_shape{};
  uint64_t batch_buffers = 0, batch_bytes = 0;  // see BatchBuffers
};
// Buffers of the persistent step of several rows.
struct BatchBuffers {
  BatchLayer* layers = nullptr;
  char* maps = nullptr;  // bf16: tensor maps of each matrix of each layer
  uint32_t* counters = nullptr;
  void *h = nullptr, *attended = nullptr, *mid = nullptr;
  float *qkv = nullptr, *squares = nullptr;
  float2* rotations = nullptr;
};
// From `base` on, which may be null to ask for the size; returns the bytes they take.
uint64_t LayOutBatch(const BatchShape& shape, char* base, BatchBuffers* out);

// What a description comes to. Filled by MakePlan, which allocates nothing on the device.
struct ProgramPlan {
  bool fast = false;            // bf16 activations on tensor cores; else f32 kernels
  uint64_t cache_bytes = 0;       // on the device
  uint64_t host_cache_bytes = 0;  // pinned host memory
  uint64_t workspace_bytes = 0;
  uint64_t input_bytes = 0;     // pinned host memory, and as much on the device (part of the workspace)
  uint64_t result_bytes = 0;    // pinned host memory
  uint64_t host_bytes = 0;      // both, and the tables of the program
  uint64_t staged_bytes = 0;       // one layer's pages of one sequence, with host pages only; see AttendTiles
  // Offsets in the workspace.
  uint64_t x = 0, branch = 0, logits = 0, saved = 0, stats = 0, partial = 0, arrived = 0, input = 0, ropes = 0,
           library = 0, unpacked = 0, staged = 0, staged_places = 0;
  uint64_t arrived_bytes = 0;
  uint64_t max_work_tiles = 0;
  PersistentPlan persistent;
};
// Sets all of the plan but the offsets.
void PlanPersistent(const Limits& limits, const dsopt_program_desc& desc, bool fast, PersistentPlan* plan);
dsopt_status MakePlan(const dsopt_be_device& device, const dsopt_program_desc& desc, ProgramPlan* plan);
// Buffers of one block from `base` on; returns the bytes they take. base may be null to ask for the size.
uint64_t LayOutBlock(const Limits& limits, const dsopt_program_desc& desc, const dsopt_block& block, bool fast,
                     char* base, BlockBuffers* out);
inline CacheCode CacheCodeOf(const dsopt_program_desc& desc) {
  switch (desc.kv_dtype) {
    case DSOPT_F8_E4M3: return CacheCode::kFp8;
    case DSOPT_I8: return CacheCode::kInt8;
    case DSOPT_I4: return CacheCode::kInt4;
    default: return CacheCode::kPlain;
  }
}
// Bytes of a layer's cache in a page; 0: the block has none.
uint64_t LayerBytes(const dsopt_program_desc& desc, const dsopt_block& block);
// Which attention kernels a block gets.
bool FastAttention(const dsopt_program_desc& desc, const dsopt_attention_block& block, bool fast);
bool FastMla(const Limits& limits, const dsopt_program_desc& desc, const dsopt_mla_block& block, bool fast);

// Sequences with at most so many rows go row by row through the decode kernel.
inline constexpr int kDecodeRows = 4;

// The batch in flight: counts, and where its inputs are on the device. All that recording reads of a batch of few rows:
// equal states are equal launches.
struct BatchState {
  int rows = 0, seqs = 0, logit_rows = 0;
  bool single_rows = false;  // every sequence has one
  int decode_count = 0, tile_count = 0, mla_tile_count = 0, mla_tile_rows = 0, longest = 0, longest_decode = 0, page_stride = 0;
  const int* tokens = nullptr;
  const int* positions = nullptr;
  const int* row_seq = nullptr;
  const int* logit_rows_list = nullptr;
  const dsopt_sample_row* sample = nullptr;
  const int* adjust_tokens = nullptr;
  const float* adjust_bias = nullptr;
  const int* history_tokens = nullptr;
  const uint32_t* history_counts = nullptr;
  const int* decode_rows = nullptr;
  const int4* tiles = nullptr;      // row tiles of attention_prefill, then those of attention_mla
  const int4* mla_tiles = nullptr;
  const int* page_table = nullptr;
  bool few_rows = false;  // at most kSkinnyRows, at most kDecodeRows of a sequence: counts are rounded up, see batch.cc
  // The same in pinned host memory, until the next batch is packed.
  const int *host_row_seq = nullptr, *host_page_table = nullptr;
  const int4 *host_tiles = nullptr, *host_mla_tiles = nullptr;

  friend bool operator==(const BatchState&, const BatchState&) = default;
};

// States that a program remembers, and how many of them have a graph at a time: see replay.cc.
inline constexpr uint32_t kReplayStates = 32, kReplayGraphs = 16;
struct ReplayState {
  BatchState batch;
  cudaGraphExec_t graph = nullptr;
  uint64_t used = 0;                // number of the batch that had it last; 0: an empty entry
  uint32_t seen = 0, wanted = 0;    // batches that had it so far, and how many of them it takes for a graph
};

}  // namespace dsopt_cuda

struct dsopt_be_program {
  dsopt_be_program(dsopt_be_device* owner, const dsopt_allocator* allocator)
      : device(owner), blocks(dsopt_cuda::HostAllocator<dsopt_block>(allocator)),
        buffers(dsopt_cuda::HostAllocator<dsopt_cuda::BlockBuffers>(allocator)),
        ropes(dsopt_cuda::HostAllocator<dsopt_cuda::RopeArgs>(allocator)),
        page_stamps_(dsopt_cuda::HostAllocator<uint32_t>(allocator)),
        page_seqs_(dsopt_cuda::HostAllocator<uint32_t>(allocator)),
        replays_(dsopt_cuda::HostAllocator<dsopt_cuda::ReplayState>(allocator)) {}

  dsopt_status Create(const dsopt_program_desc& description);
  void Destroy();
  dsopt_status Begin(const dsopt_batch& batch);
  dsopt_status Advance(uint64_t deadline_ns, uint64_t* wait_us);
  dsopt_status Result(dsopt_batch_result* result);
  dsopt_status Cancel();
  dsopt_status ReadLogits(uint32_t index, float* dst);
  dsopt_status CopyPage(uint32_t dst, uint32_t src);
  dsopt_status MovePage(uint32_t page, void* host_memory, bool to_host);

  // Some pages lie in pinned host memory: what the page table holds of them are no indices, see AllocateHostPages.
  bool has_host_pages() const { return desc.host_pages != 0; }

  dsopt_be_device* device;
  dsopt_program_desc desc{};
  dsopt_cuda::ProgramPlan plan;
  dsopt_cuda::HostVector<dsopt_block> blocks;
  dsopt_cuda::HostVector<dsopt_cuda::BlockBuffers> buffers;
  dsopt_cuda::HostVector<dsopt_cuda::RopeArgs> ropes;

 private:
  enum class Phase : uint8_t { kIdle, kSubmitting, kRunning, kDone };

  dsopt_status AllocateAll();
  dsopt_status UploadRopes(const dsopt_program_desc& description);
  // record_persistent.cc
  dsopt_status PreparePersistent();
  dsopt_status PrepareDense();
  dsopt_status PrepareLatent();
  dsopt_status PrepareBatch();
  bool MapLatentCache();
  dsopt_status UploadLayers(const void* layers, uint64_t bytes);
  // host_pages.cc
  dsopt_status AllocateHostPages();
  void FreeHostPages();
  char* PageAddress(uint32_t page) const;
  void TranslatePages(int* table, uint64_t count) const;
  dsopt_status CheckPage(uint32_t page, const void* memory, const char* what) const;
  dsopt_status PackBatch(const dsopt_batch& batch);
  dsopt_status SubmitSlice(uint64_t deadline_ns);
  void MeasureSlice(cudaEvent_t end);
  dsopt_status Fail(dsopt_status status);  // the batch is dead
  // replay.cc
  bool MayReplay() const;
  dsopt_status Replay();
  dsopt_cuda::ReplayState& RememberBatch();
  void MakeGraph(dsopt_cuda::ReplayState* state);
  cudaError_t Capture(cudaGraph_t* graph);
  void DropGraph(dsopt_cuda::ReplayState* state);
  // record.cc; *what: for the message
  cudaError_t Record(uint32_t index, const char** what);
  cudaError_t RecordEmbed(const dsopt_embed_block& block);
  // attend over args.tiles (host_tiles: the same on the host), after copying the pages of sequences that have some on
  // the host.
  cudaError_t AttendTiles(uint64_t layer_bytes, const dsopt_cuda::AttentionArgs& args, const int4* host_tiles,
                           cudaError_t (*attend)(const dsopt_cuda::Launch&, const dsopt_cuda::AttentionArgs&));
  cudaError_t RecordAttention(const dsopt_block& whole, const dsopt_cuda::BlockBuffers& b);
  cudaError_t RecordMla(const dsopt_block& whole, const dsopt_cuda::BlockBuffers& b);
  cudaError_t RecordMlp(const dsopt_mlp_block& block, const dsopt_cuda::BlockBuffers& b);
  cudaError_t RecordMoe(const dsopt_moe_block& block, const dsopt_cuda::BlockBuffers& b);
  cudaError_t RecordHead(const dsopt_head_block& block, const dsopt_cuda::BlockBuffers& b);
  cudaError_t RecordSample();
  // record_persistent.cc: the whole step up to the logits, and all of it but the head
  cudaError_t RecordPersistent();
  cudaError_t RecordLayers();
  cudaError_t Linear(const dsopt_cuda::LinearArgs& args, void* wide);
  cudaError_t LinearUnpacked(const dsopt_cuda::LinearArgs& args, void* wide);
  cudaError_t NormLinear(dsopt_cuda::LinearArgs args, const float* x, int64_t stride, const int* rows_list,
                         const dsopt_be_weight* gain, float eps, void* h, void* wide);
  cudaError_t Norm(const float* in, int64_t stride, const int* rows_list, const dsopt_be_weight* gain, float eps,
                   int rows, void* out, float* out_f32, int image_pitch);
  int ImagePitch(const dsopt_cuda::LinearArgs& args) const;
  dsopt_cuda::LinearArgs LinearOf(const dsopt_be_weight* weight, const void* in, void* out, int rows) const;
  dsopt_cuda::CacheArgs CacheOf(uint64_t cache_offset) const;
  template <typename T>
  T* At(uint64_t offset) const {
    return reinterpret_cast<T*>(workspace_ + offset);
  }

  cudaStream_t stream_ = nullptr;
  bool owns_stream_ = false;
  cudaStream_t capture_stream_ = nullptr;  // nothing ever runs there
  char* cache_ = nullptr;
  void* host_memory_ = nullptr;  // of the host's allocator, one page more than is used
  void* host_pinned_ = nullptr;  // the part of it that is registered
  char* host_cache_ = nullptr;   // the first host page, as the device sees it
  int first_host_id_ = 0;        // what the page table says for it
  char* workspace_ = nullptr;
  char* staging_ = nullptr;     // pinned host memory
  char* results_ = nullptr;     // pinned and mapped host memory
  char* results_device_ = nullptr;
  cudaEvent_t started_ = nullptr, finished_ = nullptr, slice_started_ = nullptr, slice_done_ = nullptr;
  dsopt_cuda::BatchState batch_;
  dsopt_cuda::Launch launch_{};
  dsopt_cuda::HostVector<uint32_t> page_stamps_, page_seqs_;
  dsopt_shared::PageWriters writers_{};
  dsopt_cuda::HostVector<dsopt_cuda::ReplayState> replays_;
  uint64_t replay_batches_ = 0;  // that might have been replayed
  bool replayed_ = false;        // the batch is one graph launch
  Phase phase_ = Phase::kIdle;
  bool undrained_ = false;  // a batch has failed; what it had submitted may still run
  enum class Path : uint8_t { kBlocks, kStep, kLayers };  // block by block, RecordPersistent, RecordLayers
  Path path_ = Path::kBlocks;
  bool slice_pending_ = false;
  uint32_t next_block_ = 0;
  dsopt_cuda::DenseStep dense_{};
  dsopt_cuda::LatentStep latent_{};
  dsopt_cuda::BatchStep batch_step_{};
  uint32_t persistent_steps_ = 0, batch_steps_ = 0;
  uint64_t submitted_ns_ = 0;
  uint32_t slice_blocks_ = 0;
  double block_ns_[2] = {0, 0};   // mean device time of a block: few rows, many rows
  double batch_ns_[2] = {0, 0};   // mean device time of a batch
};

#endif  // DSOPT_CUDA_PROGRAM_H_
