// coded_fill.cc - weight_fill of coded weights, a tile at a time on all threads.
#include <atomic>
#include <cmath>

#include "coded.h"
#include "fill.h"
#include "lossless.h"

namespace dsopt_cpu {
namespace {

constexpr float kMostNormal = 3.451f;  // |n| of fill.h is below it

struct Job {
  dsopt_be_weight* weight;
  uint64_t seed;
  float mean, stddev, scale, offset;
  uint8_t* scratch;  // a row per thread: of codes, or of bf16
  uint64_t scratch_bytes;
  std::atomic<uint64_t> next;
  std::atomic<dsopt_status> status;
};

float ValueAt(const Job& job, uint64_t element) {
  const uint64_t bits = FillBits(job.seed, element / 2);
  return FillValue(static_cast<uint32_t>(element % 2 != 0 ? bits >> 32 : bits), job.mean, job.stddev);
}

uint8_t Fp8FromFloat(float value) {  // |value| <= 448
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  const float magnitude = std::fabs(value);
  int exponent = magnitude < 0x1p-6f ? -6 : std::ilogb(magnitude);
  const int code = static_cast<int>(std::nearbyint(std::ldexp(magnitude, 3 - exponent)));  // 8 .. 16, or below
  return static_cast<uint8_t>(sign | Min(code + (exponent + 6) * 8, 0x7e));
}

float MostCode(Code code) { return code == kInt8 ? 127.0f : code == kFp8 ? 448.0f : 7.0f; }

void FillRow(Job* job, uint64_t matrix, uint64_t output, uint8_t* scratch) {
  dsopt_be_weight* w = job->weight;
  const uint64_t first = (matrix * w->rows + output) * w->cols;
  if (w->coded.code == kLossless12) {
    uint16_t* bits = reinterpret_cast<uint16_t*>(scratch);
    for (uint64_t i = 0; i < w->cols; ++i) bits[i] = Bf16FromFloat(ValueAt(*job, first + i));
    for (uint64_t run = 0; run * kLosslessRun < w->cols; ++run) {
      const uint64_t at = run * kLosslessRun;
      const dsopt_status status = PackRun(w, matrix, output, run, bits + at, Min(kLosslessRun, w->cols - at));
      if (status != DSOPT_OK) job->status.store(status);
    }
    return;
  }
  const float inverse = job->scale > 0.0f ? 1.0f / job->scale : 0.0f;
  for (uint64_t i = 0; i < w->cols; ++i) {
    const float value = (ValueAt(*job, first + i) - job->offset) * inverse;
    if (w->coded.code == kFp8) {
      scratch[i] = Fp8FromFloat(Max(-448.0f, Min(448.0f, value)));
      continue;
    }
    const float most = MostCode(w->coded.code);
    const int code = static_cast<int>(std::lrintf(Max(-most, Min(most, value))));
    if (w->coded.code == kInt8) {
      scratch[i] = static_cast<uint8_t>(code);
    } else if (i % 2 == 0) {
      scratch[i / 2] = static_cast<uint8_t>(code + 8);
    } else {
      scratch[i / 2] = static_cast<uint8_t>(scratch[i / 2] | (code + 8) << 4);
    }
  }
  PackCodes(w, first, w->cols, scratch);
}

void FillTiles(void* context, uint32_t slot) {
  Job* job = static_cast<Job*>(context);
  const dsopt_be_weight& w = *job->weight;
  while (true) {
    const uint64_t number = job->next.fetch_add(1);
    if (number >= w.batch * w.tiles) return;
    for (uint64_t lane = 0; lane < kTileRows; ++lane) {
      uint64_t output;
      if (OutputAt(w, number % w.tiles, lane, &output)) {
        FillRow(job, number / w.tiles, output, job->scratch + slot * job->scratch_bytes);
      }
    }
  }
}

// The same scale, and the same offset, for every group.
dsopt_status FillScales(const Job& job) {
  const CodedForm& c = job.weight->coded;
  constexpr uint64_t kPiece = 256;
  float scales[kPiece], offsets[kPiece];
  for (uint64_t i = 0; i < kPiece; ++i) {
    scales[i] = job.scale;
    offsets[i] = job.offset;
  }
  const uint64_t groups = job.weight->batch * c.groups_down * c.groups_across;
  dsopt_status status = DSOPT_OK;
  for (uint64_t first = 0; first < groups && status == DSOPT_OK; first += kPiece) {
    status = WeightWriteScales(job.weight, first, Min(kPiece, groups - first), scales,
                               c.offsets != 0 ? offsets : nullptr);
  }
  return status;
}

}  // namespace

dsopt_status FillCoded(dsopt_be_weight* w, uint64_t seed, float mean, float stddev) {
  const CodedForm& c = w->coded;
  const float spread = std::fabs(stddev) * kMostNormal;
  Job job{w, seed, mean, stddev, 0.0f, c.offsets != 0 ? mean : 0.0f, nullptr, RoundUp(w->cols * 2, 64), {}, {}};
  job.scale = (c.offsets != 0 ? spread : std::fabs(mean) + spread) / MostCode(c.code);
  if (c.half_scales != 0) {
    job.scale = FloatFromF16(F16FromFloat(job.scale));
    job.offset = FloatFromF16(F16FromFloat(job.offset));
  }
  dsopt_status status = c.code == kLossless12 ? RestartLossless(w) : FillScales(job);
  if (status != DSOPT_OK) return status;
  Memory memory;
  status = Allocate(w->device->host, job.scratch_bytes * w->device->pool->threads(), "weight_fill", &memory);
  if (status != DSOPT_OK) return status;
  job.scratch = memory.data;
  w->device->pool->Run(FillTiles, &job);
  Release(w->device->host, &memory);
  if (job.status.load() != DSOPT_OK) return job.status.load();
  return c.code == kLossless12 ? FinishLossless(w) : DSOPT_OK;
}

}  // namespace dsopt_cpu
