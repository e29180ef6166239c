/* ops_only.c - the operators of dsopt/ops.h (preview) alone, for engines that want the kernels and not the runtime: no
 * model, no session. Memory, paging and batching are this program's own. It takes two steps of a toy transformer
 * layer, attention over a paged cache and a mixture of experts, and checks each against plain loops.
 *   ops_only [avx2]          the argument caps the CPU's instruction set
 * C99; link with -ldsopt -lm. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <dsopt/ops.h>

enum {
  BATCH = 3, Q_HEADS = 4, KV_HEADS = 2, HEAD_DIM = 32, PAGE_TOKENS = 16, PAGES = 12, MAX_PAGES = 4,
  TOKENS = 9, HIDDEN = 64, EXPERTS = 6, TOP_K = 2, INNER = 48
};

/* Row b of the batch has so many new tokens, and so many keys with them: a prompt, a single token, a longer prompt. */
static const int32_t q_offsets[BATCH + 1] = {0, 4, 5, 9};
static const int32_t kv_lengths[BATCH] = {4, 50, 17};
static const int32_t page_table[BATCH * MAX_PAGES] = {7, -1, -1, -1, 2, 9, 0, 4, 11, 5, -1, -1};

static float q[TOKENS * Q_HEADS * HEAD_DIM], attended[TOKENS * Q_HEADS * HEAD_DIM];
static float k_pages[PAGES * KV_HEADS * PAGE_TOKENS * HEAD_DIM], v_pages[PAGES * KV_HEADS * PAGE_TOKENS * HEAD_DIM];
static float x[TOKENS * HIDDEN], router[EXPERTS * HIDDEN], mixed[TOKENS * HIDDEN], chosen_weight[TOKENS * TOP_K];
static float gate_up[EXPERTS * 2 * INNER * HIDDEN], down[EXPERTS * HIDDEN * INNER];
static int32_t chosen[TOKENS * TOP_K];

static int Failed(const char* what, dsopt_status status) {
  if (status >= 0) return 0;
  fprintf(stderr, "%s: %s: %s\n", what, dsopt_status_name(status), dsopt_last_error());
  return 1;
}

/* Numbers between -scale and scale, the same on every machine. */
static void Fill(float* values, size_t count, float scale) {
  static uint32_t state = 1;
  for (size_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    values[i] = scale * ((float)(state >> 8) / 8388608.0f - 1.0f);
  }
}
#define FILL(array, scale) Fill(array, sizeof(array) / sizeof(float), scale)

static dsopt_tensor View(dsopt_dtype dtype, void* data, uint32_t ndim, int64_t a, int64_t b, int64_t c, int64_t d) {
  dsopt_tensor view = {.struct_size = sizeof view, .dtype = dtype, .ndim = ndim, .data = data};
  const int64_t shape[] = {a, b, c, d};
  for (uint32_t i = 0; i < ndim; ++i) view.shape[i] = shape[i];
  return view; /* strides stay zero: dense */
}

/* ---- the same by plain loops -------------------------------------------------------------------- */

static const float* Place(const float* pages, int seq, int key, int head) {
  const int32_t page = page_table[seq * MAX_PAGES + key / PAGE_TOKENS];
  return pages + ((page * KV_HEADS + head) * PAGE_TOKENS + key % PAGE_TOKENS) * HEAD_DIM;
}

static double AttentionError(void) {
  double worst = 0;
  for (int seq = 0; seq < BATCH; ++seq) {
    for (int row = q_offsets[seq]; row < q_offsets[seq + 1]; ++row) {
      const int keys = kv_lengths[seq] - q_offsets[seq + 1] + row + 1; /* causal */
      for (int head = 0; head < Q_HEADS; ++head) {
        const int kv_head = head / (Q_HEADS / KV_HEADS), at = (row * Q_HEADS + head) * HEAD_DIM;
        double total = 0, sum[HEAD_DIM] = {0};
        for (int key = 0; key < keys; ++key) {
          double score = 0;
          for (int d = 0; d < HEAD_DIM; ++d) score += (double)q[at + d] * (double)Place(k_pages, seq, key, kv_head)[d];
          const double weight = exp(score / sqrt(HEAD_DIM));
          total += weight;
          for (int d = 0; d < HEAD_DIM; ++d) sum[d] += weight * (double)Place(v_pages, seq, key, kv_head)[d];
        }
        for (int d = 0; d < HEAD_DIM; ++d) worst = fmax(worst, fabs(sum[d] / total - (double)attended[at + d]));
      }
    }
  }
  return worst;
}

/* The weighted outputs of the experts that the operator reports to have chosen. */
static double MixtureError(void) {
  double worst = 0;
  for (int t = 0; t < TOKENS; ++t) {
    double sum[HIDDEN] = {0};
    for (int n = 0; n < TOP_K; ++n) {
      const float* up = gate_up + (size_t)chosen[t * TOP_K + n] * 2 * INNER * HIDDEN;
      const float* to = down + (size_t)chosen[t * TOP_K + n] * HIDDEN * INNER;
      for (int i = 0; i < INNER; ++i) {
        double gate = 0, wide = 0;
        for (int h = 0; h < HIDDEN; ++h) {
          gate += (double)up[i * HIDDEN + h] * (double)x[t * HIDDEN + h];
          wide += (double)up[(INNER + i) * HIDDEN + h] * (double)x[t * HIDDEN + h];
        }
        const double y = gate / (1 + exp(-gate)) * wide * (double)chosen_weight[t * TOP_K + n];
        for (int h = 0; h < HIDDEN; ++h) sum[h] += y * (double)to[h * INNER + i];
      }
    }
    for (int h = 0; h < HIDDEN; ++h) worst = fmax(worst, fabs(sum[h] - (double)mixed[t * HIDDEN + h]));
  }
  return worst;
}

/* The probabilities of the chosen experts, and that no other expert has a larger one. */
static double RouterError(void) {
  double worst = 0;
  for (int t = 0; t < TOKENS; ++t) {
    double p[EXPERTS], kept = 0, least = 1e30, rest = 0;
    for (int e = 0; e < EXPERTS; ++e) {
      double logit = 0;
      for (int h = 0; h < HIDDEN; ++h) logit += (double)router[e * HIDDEN + h] * (double)x[t * HIDDEN + h];
      p[e] = exp(logit); /* softmax but for its sum, which the renormalisation cancels */
    }
    for (int n = 0; n < TOP_K; ++n) kept += p[chosen[t * TOP_K + n]];
    for (int n = 0; n < TOP_K; ++n) {
      const double mine = p[chosen[t * TOP_K + n]];
      least = fmin(least, mine);
      worst = fmax(worst, fabs(mine / kept - (double)chosen_weight[t * TOP_K + n]));
      p[chosen[t * TOP_K + n]] = 0;
    }
    for (int e = 0; e < EXPERTS; ++e) rest = fmax(rest, p[e]);
    if (rest > least * 1.00001) worst = 1;
  }
  return worst;
}

static int Report(const char* what, double error) {
  const int good = error < 1e-5;
  printf("%-34s largest difference %.1e  %s\n", what, error, good ? "ok" : "WRONG");
  return good;
}

int main(int argc, char** argv) {
  const dsopt_runtime_options options = {.struct_size = sizeof options, .cpu_variant = argc > 1 ? argv[1] : NULL};
  dsopt_runtime* runtime = NULL;
  dsopt_ops* ops = NULL;
  dsopt_launch launch = {.struct_size = sizeof launch};
  size_t attention_bytes = 0, moe_bytes = 0;
  const char* kernel = "";
  int failed = 1;

  FILL(q, 1), FILL(k_pages, 1), FILL(v_pages, 1), FILL(x, 1), FILL(router, 0.3f), FILL(gate_up, 0.2f), FILL(down, 0.2f);
  const dsopt_tensor q_view = View(DSOPT_F32, q, 3, TOKENS, Q_HEADS, HEAD_DIM, 0);
  const dsopt_tensor k_view = View(DSOPT_F32, k_pages, 4, PAGES, KV_HEADS, PAGE_TOKENS, HEAD_DIM);
  const dsopt_tensor v_view = View(DSOPT_F32, v_pages, 4, PAGES, KV_HEADS, PAGE_TOKENS, HEAD_DIM);
  const dsopt_tensor attended_view = View(DSOPT_F32, attended, 3, TOKENS, Q_HEADS, HEAD_DIM, 0);
  const dsopt_attention_args attention = {
      .struct_size = sizeof attention, .flags = DSOPT_ATTENTION_CAUSAL, .batch = BATCH, .max_pages = MAX_PAGES,
      .q = &q_view, .k = &k_view, .v = &v_view, .q_offsets = q_offsets, .kv_lengths = kv_lengths,
      .page_table = page_table, .out = &attended_view};

  const dsopt_tensor x_view = View(DSOPT_F32, x, 2, TOKENS, HIDDEN, 0, 0);
  const dsopt_tensor router_view = View(DSOPT_F32, router, 2, EXPERTS, HIDDEN, 0, 0);
  const dsopt_tensor chosen_view = View(DSOPT_I32, chosen, 2, TOKENS, TOP_K, 0, 0);
  const dsopt_tensor weight_view = View(DSOPT_F32, chosen_weight, 2, TOKENS, TOP_K, 0, 0);
  const dsopt_tensor gate_up_view = View(DSOPT_F32, gate_up, 3, EXPERTS, 2 * INNER, HIDDEN, 0);
  const dsopt_tensor down_view = View(DSOPT_F32, down, 3, EXPERTS, HIDDEN, INNER, 0);
  const dsopt_tensor mixed_view = View(DSOPT_F32, mixed, 2, TOKENS, HIDDEN, 0, 0);
  const dsopt_moe_args moe = {
      .struct_size = sizeof moe, .activation = DSOPT_ACT_SILU, .top_k = TOP_K, .renormalise = 1, .x = &x_view,
      .router = &router_view, .expert_ids = &chosen_view, .expert_weights = &weight_view, .gate_up = &gate_up_view,
      .down = &down_view, .out = &mixed_view};

  if (Failed("runtime", dsopt_runtime_create(&options, &runtime))) goto done;
  if (Failed("operators", dsopt_ops_create(runtime, "cpu", &ops))) goto done;
  if (Failed("workspace", dsopt_op_workspace(ops, DSOPT_OP_ATTENTION, &attention, &attention_bytes, &kernel))) goto done;
  if (Failed("workspace", dsopt_op_workspace(ops, DSOPT_OP_MOE, &moe, &moe_bytes, NULL))) goto done;

  /* One workspace serves both: its contents do not matter between calls. malloc aligns to 16, operators want 256. */
  launch.workspace_size = attention_bytes > moe_bytes ? attention_bytes : moe_bytes;
  char* memory = malloc(launch.workspace_size + 256);
  if (memory == NULL) goto done;
  launch.workspace = memory + (256 - (uintptr_t)memory % 256) % 256;
  printf("kernels: %s, workspace: %zu bytes\n", kernel, launch.workspace_size);

  failed = 0;
  for (int step = 0; step < 2 && !failed; ++step) { /* nothing is allocated from here on */
    if (Failed("attention", dsopt_op_attention(ops, &attention, &launch)) || Failed("moe", dsopt_op_moe(ops, &moe, &launch)))
      failed = 1;
  }
  if (!failed) {
    const int good = Report("attention over pages, causal", AttentionError()) & Report("router and choice", RouterError()) &
                     Report("mixture of experts", MixtureError());
    failed = !good;
  }
  free(memory);
done:
  dsopt_ops_release(ops);
  dsopt_runtime_release(runtime);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
