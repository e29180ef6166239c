// record.cc - what each block is made of: the sequence of kernels, and which variant of each the batch gets. Of the batch
// it reads batch_ alone, and it changes nothing that a later recording reads: replay.cc depends on both.
#include "pack.h"
#include "program.h"
#include "shared/defaults.h"

using namespace dsopt_cuda;

namespace {

// Up to so many slots a mixture's experts are read slot by slot; beyond, slots are sorted and share the reads.
constexpr int kUnsortedSlots = 16;

}  // namespace

CacheArgs dsopt_be_program::CacheOf(uint64_t cache_offset) const {
  return {cache_ + cache_offset, desc.page_bytes, batch_.page_table, batch_.page_stride,
          batch_.positions,      batch_.row_seq,  desc.kv_dtype == DSOPT_BF16, CacheCodeOf(desc)};
}

cudaError_t dsopt_be_program::RecordEmbed(const dsopt_embed_block& block) {
  if (block.table->elem == Elem::kPacked)
    return EmbedPacked(launch_, block.table->packed, batch_.tokens, batch_.rows,
                       dsopt_shared::ScaleOrOne(block.scale), At<float>(plan.x));
  return Embed(launch_, block.table->data, block.table->elem, batch_.tokens, batch_.rows,
               static_cast<int>(desc.hidden), dsopt_shared::ScaleOrOne(block.scale), At<float>(plan.x));
}

// Attention of tiles. Of prompts where pages lie on the host every tile of 128 rows and every head would read all pages,
// and what comes over the bus stays in no cache (measured: 50 reads of a page per chunk of 2048 rows). So a layer's
// pages of a sequence that has some there are copied to the workspace once, and attention reads them there.
cudaError_t dsopt_be_program::AttendTiles(uint64_t layer_bytes, const AttentionArgs& args, const int4* host_tiles,
                                          cudaError_t (*attend)(const Launch&, const AttentionArgs&)) {
  if (!has_host_pages()) return attend(launch_, args);
  // A sequence's tiles from `first` on, and the pages they read.
  struct Part {
    int seq, end, first_page, end_page;
    bool staged;
  };
  const auto part_of = [&](int first) {
    Part p{batch_.host_row_seq[host_tiles[first].x], first + 1, 0, 0, false};
    while (p.end < args.tile_count && batch_.host_row_seq[host_tiles[p.end].x] == p.seq) ++p.end;
    const int begin = host_tiles[first].z, keys = host_tiles[p.end - 1].z + host_tiles[p.end - 1].y;
    if (args.window > 0 && begin + 1 > args.window) p.first_page = (begin + 1 - args.window) / kPageTokens;
    p.end_page = (keys + kPageTokens - 1) / kPageTokens;
    const int* table = batch_.host_page_table + static_cast<int64_t>(p.seq) * batch_.page_stride;
    const int device_pages = static_cast<int>(desc.page_count - desc.host_pages);
    for (int page = p.first_page; keys - begin > kDecodeRows && page < p.end_page && !p.staged; ++page)
      p.staged = table[page] < 0 || table[page] >= device_pages;
    return p;
  };
  for (int first = 0; first < args.tile_count;) {
    Part part = part_of(first);
    AttentionArgs a = args;
    a.tiles = args.tiles + first;
    if (part.staged) {
      a.cache.base = At<char>(plan.staged);
      a.cache.page_bytes = layer_bytes;
      a.cache.page_table = At<int>(plan.staged_places);
      a.cache.page_stride = 0;  // one sequence at a time
      a.fresh = 0;
      RETURN_IF_CUDA_ERROR(StagePages(
          launch_, {args.cache.base, args.cache.page_bytes, layer_bytes,
                    args.cache.page_table + static_cast<int64_t>(part.seq) * args.cache.page_stride,
                    part.first_page, part.end_page, At<char>(plan.staged), At<int>(plan.staged_places)}));
    } else {  // with all that follow and need no copy
      while (part.end < args.tile_count) {
        const Part next = part_of(part.end);
        if (next.staged) break;
        part.end = next.end;
      }
    }
    a.tile_count = part.end - first;
    RETURN_IF_CUDA_ERROR(attend(launch_, a));
    first = part.end;
  }
  return cudaSuccess;
}

cudaError_t dsopt_be_program::RecordAttention(const dsopt_block& whole, const BlockBuffers& b) {
  const dsopt_attention_block& block = whole.u.attention;
  const int rows = batch_.rows, hidden = static_cast<int>(desc.hidden), head_dim = static_cast<int>(block.head_dim);
  float* x = At<float>(plan.x);
  LinearArgs qkv = LinearOf(block.qkv, b.h, b.a, rows);
  qkv.bias = VectorOf(block.qkv_bias);
  qkv.out_f32 = true;
  RETURN_IF_CUDA_ERROR(NormLinear(qkv, x, hidden, nullptr, block.norm, block.norm_eps, b.h, nullptr));

  const bool fast = FastAttention(desc, block, plan.fast);
  AppendArgs append{};
  append.qkv = b.a;
  append.rows = rows;
  append.q_heads = static_cast<int>(block.q_heads);
  append.kv_heads = static_cast<int>(block.kv_heads);
  append.head_dim = head_dim;
  append.rope = ropes[block.rope];
  append.cache = CacheOf(block.cache_offset);
  append.q = b.q;
  append.q_bf16 = fast;
  RETURN_IF_CUDA_ERROR(RopeAppend(launch_, append));

  AttentionArgs attention{};
  attention.q = b.q;
  attention.q_bf16 = fast;
  attention.out = b.attended;
  attention.out_bf16 = plan.fast;
  LinearArgs out = LinearOf(block.out, b.attended, x, rows);
  out.image_pitch = fast && batch_.tile_count == 0 ? ImagePitch(out) : 0;
  attention.out_layout = out.image_pitch != 0 ? RowLayout::Image(rows, out.image_pitch) : RowLayout::Plain(out.k);
  attention.rows = rows;
  attention.q_heads = append.q_heads;
  attention.kv_heads = append.kv_heads;
  attention.q_dim = attention.v_dim = head_dim;
  attention.window = static_cast<int>(block.window);
  attention.scale = dsopt_shared::ScoreScale(block.scale, block.head_dim);
  attention.cache = append.cache;
  attention.token_stride = head_dim;
  attention.head_stride = static_cast<int64_t>(head_dim) * kPageTokens;
  attention.value_offset = attention.head_stride * attention.kv_heads;
  attention.decode_rows = batch_.decode_rows;
  attention.decode_count = batch_.decode_count;
  attention.longest_decode = batch_.longest_decode;
  attention.fresh = kDecodeRows;
  attention.tiles = batch_.tiles;
  attention.tile_count = batch_.tile_count;
  attention.partial = At<float>(plan.partial);
  attention.arrived = At<uint32_t>(plan.arrived);
  if (!fast) RETURN_IF_CUDA_ERROR(AttentionReference(launch_, attention));
  if (fast && batch_.decode_count > 0) RETURN_IF_CUDA_ERROR(AttentionDecode(launch_, attention));
  if (fast && batch_.tile_count > 0)
    RETURN_IF_CUDA_ERROR(AttendTiles(LayerBytes(desc, whole), attention, batch_.host_tiles, AttentionPrefill));

  out.bias = VectorOf(block.out_bias);
  out.epilogue = Epilogue::kAdd;
  return Linear(out, nullptr);
}

cudaError_t dsopt_be_program::RecordMla(const dsopt_block& whole, const BlockBuffers& b) {
  const dsopt_mla_block& block = whole.u.mla;
  const int rows = batch_.rows, hidden = static_cast<int>(desc.hidden), heads = static_cast<int>(block.heads);
  const int nope = static_cast<int>(block.nope), latent = static_cast<int>(block.latent);
  const int rope_dim = static_cast<int>(block.rope_dim), v_dim = static_cast<int>(block.v_dim);
  const int q_width = heads * (nope + rope_dim), q_part = block.q_rank != 0 ? static_cast<int>(block.q_rank) : q_width;
  const int width = latent + rope_dim;
  float* x = At<float>(plan.x);
  LinearArgs down = LinearOf(block.down, b.h, b.a, rows);
  down.bias = VectorOf(block.down_bias);
  down.out_f32 = true;
  RETURN_IF_CUDA_ERROR(NormLinear(down, x, hidden, nullptr, block.norm, block.norm_eps, b.h, nullptr));
  if (block.q_rank != 0) {
    LinearArgs up = LinearOf(block.q_up, b.q_low, b.q, rows);
    up.out_f32 = true;
    RETURN_IF_CUDA_ERROR(NormLinear(up, b.a, down.n, nullptr, block.q_norm, block.latent_eps, b.q_low, nullptr));
  }
  MlaPrepareArgs prepare{};
  prepare.a = b.a;
  prepare.a_stride = down.n;
  prepare.latent_at = q_part;
  prepare.q = block.q_rank != 0 ? static_cast<const float*>(b.q) : b.a;
  prepare.q_stride = block.q_rank != 0 ? q_width : down.n;
  prepare.latent_norm = VectorOf(block.latent_norm);
  prepare.latent_eps = block.latent_eps;
  prepare.rows = rows;
  prepare.heads = heads;
  prepare.nope = nope;
  prepare.latent = latent;
  prepare.rope_dim = rope_dim;
  prepare.rope = ropes[block.rope];
  prepare.cache = CacheOf(block.cache_offset);
  prepare.q_nope = b.q_nope;
  prepare.q_cat = b.q_cat;
  prepare.bf16 = plan.fast;
  RETURN_IF_CUDA_ERROR(MlaPrepare(launch_, prepare));

  // q_cat[:, h, :latent] = q_nope[:, h] k_up[h]; stored transposed, so it is an ordinary product per head.
  LinearArgs absorb = LinearOf(block.k_up, b.q_nope, b.q_cat, rows);
  absorb.n = latent;
  absorb.k = nope;
  absorb.in_row_stride = static_cast<int64_t>(heads) * nope;
  absorb.in_batch_stride = nope;
  absorb.out_row_stride = static_cast<int64_t>(heads) * width;
  absorb.out_batch_stride = width;
  absorb.batch = heads;
  RETURN_IF_CUDA_ERROR(Linear(absorb, nullptr));

  AttentionArgs attention{};
  attention.q = b.q_cat;
  attention.q_bf16 = plan.fast;
  attention.out = b.context;
  attention.out_bf16 = plan.fast;
  attention.rows = rows;
  attention.q_heads = heads;
  attention.kv_heads = 1;
  attention.q_dim = width;
  attention.v_dim = latent;
  attention.scale = block.scale;
  attention.cache = prepare.cache;
  attention.token_stride = width;
  attention.tiles = batch_.mla_tiles;
  attention.tile_count = batch_.mla_tile_count;
  attention.longest_decode = batch_.longest;
  attention.fresh = kPrefillRows;
  attention.partial = At<float>(plan.partial);
  attention.arrived = At<uint32_t>(plan.arrived);
  if (FastMla(device->limits, desc, block, plan.fast)) {
    attention.rows = batch_.mla_tile_rows;
    RETURN_IF_CUDA_ERROR(AttendTiles(LayerBytes(desc, whole), attention, batch_.host_mla_tiles, AttentionMla));
  } else {
    RETURN_IF_CUDA_ERROR(AttentionReference(launch_, attention));
  }

  LinearArgs values = LinearOf(block.v_up, b.context, b.attended, rows);
  values.in_row_stride = static_cast<int64_t>(heads) * latent;
  values.in_batch_stride = latent;
  values.out_row_stride = static_cast<int64_t>(heads) * v_dim;
  values.out_batch_stride = v_dim;
  values.batch = heads;
  RETURN_IF_CUDA_ERROR(Linear(values, nullptr));
  LinearArgs out = LinearOf(block.out, b.attended, x, rows);
  out.bias = VectorOf(block.out_bias);
  out.epilogue = Epilogue::kAdd;
  return Linear(out, nullptr);
}

cudaError_t dsopt_be_program::RecordMlp(const dsopt_mlp_block& block, const BlockBuffers& b) {
  const int rows = batch_.rows, hidden = static_cast<int>(desc.hidden);
  float* x = At<float>(plan.x);
  LinearArgs up = LinearOf(block.gate_up, b.h, b.mid, rows);
  up.bias = VectorOf(block.gate_up_bias);
  up.epilogue = Epilogue::kGateUp;
  up.gelu = block.activation == DSOPT_ACT_GELU_TANH;
  LinearArgs down = LinearOf(block.down, b.mid, x, rows);
  down.image_pitch = ImagePitch(up) != 0 ? ImagePitch(down) : 0;
  const RowLayout mid = down.image_pitch != 0 ? RowLayout::Image(rows, down.image_pitch) : RowLayout::Plain(down.k);
  up.out_row_stride = mid.row_stride;
  up.out_chunk_stride = mid.chunk_stride;
  up.out_tiled = mid.tiled;
  RETURN_IF_CUDA_ERROR(NormLinear(up, x, hidden, nullptr, block.norm, block.norm_eps, b.h, b.wide));
  down.bias = VectorOf(block.down_bias);
  down.epilogue = Epilogue::kAdd;
  return Linear(down, nullptr);
}

cudaError_t dsopt_be_program::RecordMoe(const dsopt_moe_block& block, const BlockBuffers& b) {
  const int rows = batch_.rows, hidden = static_cast<int>(desc.hidden), top_k = static_cast<int>(block.top_k);
  const int slots = rows * top_k;
  float* x = At<float>(plan.x);
  RouteArgs route{};
  route.h = b.h32;
  route.router = VectorOf(block.router);
  route.rows = rows;
  route.hidden = hidden;
  route.experts = static_cast<int>(block.experts);
  route.top_k = top_k;
  route.groups = static_cast<int>(block.groups);
  route.top_groups = static_cast<int>(block.top_groups);
  route.renormalise = block.renormalise != 0;
  route.route_scale = dsopt_shared::ScaleOrOne(block.route_scale);
  route.logits = b.route_logits;
  route.slot_expert = b.slot_expert;
  route.slot_weight = b.slot_weight;
  MoeDecodeArgs one{};
  one.x = x;
  one.norm_gain = VectorOf(block.norm);
  one.norm_eps = block.norm_eps;
  one.gate_up = block.gate_up->data;
  one.down = block.down->data;
  one.hidden = hidden;
  one.inner = static_cast<int>(block.inner);
  one.shared_inner = static_cast<int>(block.shared_inner);
  one.top_k = top_k;
  one.gelu = block.activation == DSOPT_ACT_GELU_TANH;
  one.slot_expert = b.slot_expert;
  one.slot_weight = b.slot_weight;
  one.mid = b.mid;
  if (block.shared_inner != 0) {
    one.shared_gate_up = block.shared_gate_up->data;
    one.shared_down = block.shared_down->data;
  }
  const bool plain = block.gate_up->elem == Elem::kBf16 && block.down->elem == Elem::kBf16 &&
                     (block.shared_inner == 0 || (block.shared_gate_up->elem == Elem::kBf16 &&
                                                  block.shared_down->elem == Elem::kBf16));
  if (plan.fast && plain && rows == 1 && MoeDecodeSupported(device->limits, one)) {
    route.h = x;
    route.norm_gain = one.norm_gain;
    route.norm_eps = one.norm_eps;
    route.arrived = At<uint32_t>(plan.arrived);
    RETURN_IF_CUDA_ERROR(Route(launch_, route));
    return MoeDecode(launch_, one);
  }
  RETURN_IF_CUDA_ERROR(Norm(x, hidden, nullptr, block.norm, block.norm_eps, rows, b.h, b.h32, 0));
  RETURN_IF_CUDA_ERROR(Route(launch_, route));
  const bool sorted = plan.fast && slots > kUnsortedSlots;
  if (sorted)
    RETURN_IF_CUDA_ERROR(
        MoeSort(launch_, b.slot_expert, slots, route.experts, b.sorted_slots, b.tiles, b.max_tiles));
  LinearArgs up = LinearOf(block.gate_up, b.h, b.mid, slots);
  up.epilogue = Epilogue::kGateUp;
  up.gelu = block.activation == DSOPT_ACT_GELU_TANH;
  up.out_row_stride = up.n / 2;
  up.slot_expert = b.slot_expert;
  up.in_div = top_k;
  up.sorted_slots = sorted ? b.sorted_slots : nullptr;
  up.tiles = b.tiles;
  up.max_tiles = slots / kGroupRows + route.experts;
  RETURN_IF_CUDA_ERROR(Linear(up, nullptr));
  LinearArgs down = LinearOf(block.down, b.mid, b.y, slots);
  down.out_f32 = true;
  down.slot_expert = b.slot_expert;
  down.sorted_slots = up.sorted_slots;
  down.tiles = b.tiles;
  down.max_tiles = up.max_tiles;
  RETURN_IF_CUDA_ERROR(Linear(down, nullptr));
  RETURN_IF_CUDA_ERROR(MoeCombine(launch_, b.y, b.slot_weight, rows, hidden, top_k, x));
  if (block.shared_inner == 0) return cudaSuccess;
  LinearArgs shared_up = LinearOf(block.shared_gate_up, b.h, b.mid, rows);
  shared_up.epilogue = Epilogue::kGateUp;
  shared_up.gelu = up.gelu;
  shared_up.out_row_stride = shared_up.n / 2;
  RETURN_IF_CUDA_ERROR(Linear(shared_up, b.wide));
  LinearArgs shared_down = LinearOf(block.shared_down, b.mid, x, rows);
  shared_down.epilogue = Epilogue::kAdd;
  return Linear(shared_down, nullptr);
}

cudaError_t dsopt_be_program::RecordHead(const dsopt_head_block& block, const BlockBuffers& b) {
  if (batch_.logit_rows == 0) return cudaSuccess;
  const int rows = batch_.logit_rows;
  LinearArgs head = LinearOf(block.weight, b.h, At<float>(plan.logits), rows);
  head.out_f32 = true;
  RETURN_IF_CUDA_ERROR(NormLinear(head, At<float>(plan.x), desc.hidden,
                                  batch_.rows == 1 ? nullptr : batch_.logit_rows_list, block.norm, block.norm_eps, b.h,
                                  nullptr));
  return RecordSample();
}

cudaError_t dsopt_be_program::RecordSample() {
  SampleArgs a{};
  a.logits = At<float>(plan.logits);
  a.count = batch_.logit_rows;
  a.vocab = static_cast<int>(desc.vocab);
  a.rows = batch_.sample;
  a.adjust_tokens = batch_.adjust_tokens;
  a.adjust_bias = batch_.adjust_bias;
  a.history_tokens = batch_.history_tokens;
  a.history_counts = batch_.history_counts;
  a.saved = At<float>(plan.saved);
  a.history_base = static_cast<int>(desc.max_adjust);
  a.partial = At<float4>(plan.stats);
  const uint64_t rows = desc.max_logit_rows;
  a.tokens = reinterpret_cast<int*>(results_device_);
  a.logprobs = reinterpret_cast<float*>(results_device_ + rows * 4);
  a.top_tokens = reinterpret_cast<int*>(results_device_ + rows * 8);
  a.top_logprobs = reinterpret_cast<float*>(results_device_ + rows * 8 + rows * 4 * DSOPT_MAX_TOP_LOGPROBS);
  return Sample(launch_, a);
}

cudaError_t dsopt_be_program::Record(uint32_t index, const char** what) {
  const dsopt_block& block = blocks[index];
  const BlockBuffers& b = buffers[index];
  cudaError_t error = cudaErrorInvalidValue;
  *what = "launching a block";
  switch (block.kind) {
    case DSOPT_BLOCK_EMBED:
      *what = "launching the embedding";
      error = RecordEmbed(block.u.embed);
      break;
    case DSOPT_BLOCK_ATTENTION:
      *what = "launching attention";
      error = RecordAttention(block, b);
      break;
    case DSOPT_BLOCK_MLA:
      *what = "launching latent attention";
      error = RecordMla(block, b);
      break;
    case DSOPT_BLOCK_MLP:
      *what = "launching a feed-forward block";
      error = RecordMlp(block.u.mlp, b);
      break;
    case DSOPT_BLOCK_MOE:
      *what = "launching a mixture";
      error = RecordMoe(block.u.moe, b);
      break;
    case DSOPT_BLOCK_HEAD:
      *what = "launching the head";
      error = RecordHead(block.u.head, b);
      break;
    default:
      break;
  }
  return error;
}
