// lossless.cc - see lossless.h.
#include "lossless.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <new>

namespace dsopt_cpu {

// Runs of which only a part has come, and the escapes so far. Gone when the weight is complete.
struct LosslessState {
  struct Run {
    Run* next;
    uint64_t row, run;   // row over all matrices
    uint64_t filled[2];  // a bit per value: a write that failed may come again
    uint16_t values[kLosslessRun];
    Memory memory;
  };
  struct Found {
    uint64_t tile;  // over all matrices
    Escape escape;
  };
  Memory memory;
  Run* open = nullptr;
  uint64_t written = 0;  // elements
  Found* found = nullptr;
  uint64_t found_count = 0, found_room = 0;
  Memory found_memory;
  std::atomic_flag busy = ATOMIC_FLAG_INIT;  // around found, while threads fill
};

namespace {

using Run = LosslessState::Run;
using Found = LosslessState::Found;

uint64_t Elements(const dsopt_be_weight& w) { return w.batch * w.rows * w.cols; }

dsopt_status AddEscape(dsopt_be_weight* w, const Found& found) {
  LosslessState* s = w->coded.lossless;
  while (s->busy.test_and_set(std::memory_order_acquire)) {
  }
  dsopt_status status = DSOPT_OK;
  if (s->found_count == s->found_room) {
    const uint64_t room = Max<uint64_t>(256, s->found_room * 2);
    Memory larger;
    status = Allocate(w->device->host, room * sizeof(Found), "escapes of a weight", &larger);
    if (status == DSOPT_OK) {
      if (s->found_count != 0) std::memcpy(larger.data, s->found, s->found_count * sizeof(Found));
      Release(w->device->host, &s->found_memory);
      s->found_memory = larger;
      s->found = reinterpret_cast<Found*>(larger.data);
      s->found_room = room;
    }
  }
  if (status == DSOPT_OK) s->found[s->found_count++] = found;
  s->busy.clear(std::memory_order_release);
  return status;
}

// Where sign and mantissa of a lane lie in the words of its half of a step.
struct RestPlace {
  uint32_t mask, sign, mantissa;  // shifts of the sign bit and of the mantissa
};
RestPlace PlaceOfRest(uint64_t lane) {
  return lane / 16 % 2 == 0 ? RestPlace{0x807f, 15, 0} : RestPlace{0x7f80, 14, 7};
}

uint8_t* NibbleWord(uint8_t* step, uint64_t lane) { return step + lane % 16 * 4; }
uint8_t* NibbleAt(uint8_t* step, uint64_t lane, uint64_t odd) {
  return NibbleWord(step, lane) + odd * 2 + lane / 32;
}
uint8_t* RestAt(uint8_t* step, uint64_t lane, uint64_t odd) {
  return step + 64 + lane / 32 * 64 + lane % 16 * 4 + odd * 2;
}

// The bits of `value` that `mask` covers, into the word at `at`.
void Merge(uint8_t* at, uint32_t mask, uint32_t value) {
  uint32_t word;
  std::memcpy(&word, at, 4);
  word = (word & ~mask) | value;
  std::memcpy(at, &word, 4);
}

uint32_t ExponentOf(uint32_t bits) { return bits >> 7 & 0xffu; }
bool Escapes(uint32_t bits, uint32_t base) { return ExponentOf(bits) != 0 && ExponentOf(bits) <= base; }

// Part of a run: keeps it, and packs the run when it is whole.
dsopt_status AddPart(dsopt_be_weight* w, uint64_t row, uint64_t run, uint64_t at, uint64_t count,
                     const uint8_t* src) {
  LosslessState* s = w->coded.lossless;
  Run** link = &s->open;
  while (*link != nullptr && ((*link)->row != row || (*link)->run != run)) link = &(*link)->next;
  if (*link == nullptr) {
    Memory memory;
    const dsopt_status status = Allocate(w->device->host, sizeof(Run), "part of a weight", &memory);
    if (status != DSOPT_OK) return status;
    *link = new (memory.data) Run{nullptr, row, run, {}, {}, memory};
  }
  Run* part = *link;
  std::memcpy(part->values + at, src, count * 2);
  for (uint64_t i = at; i < at + count; ++i) part->filled[i / 64] |= uint64_t{1} << i % 64;
  const uint64_t length = Min(kLosslessRun, w->cols - run * kLosslessRun);
  if (static_cast<uint64_t>(std::popcount(part->filled[0]) + std::popcount(part->filled[1])) < length)
    return DSOPT_OK;
  const dsopt_status status = PackRun(w, row / w->rows, row % w->rows, run, part->values, length);
  if (status != DSOPT_OK) return status;  // the part stays: the write may come again
  *link = part->next;
  Memory memory = part->memory;
  Release(w->device->host, &memory);
  return DSOPT_OK;
}

// So many escapes that bf16 as it is takes less: the weight becomes a plain one. On failure it is as before.
dsopt_status BecomePlain(dsopt_be_weight* w) {
  dsopt_be_weight plain = *w;
  plain.coded = CodedForm{};
  DescribePlain(&plain);
  const uint64_t more = plain.bytes > w->bytes ? plain.bytes - w->bytes : 0;
  dsopt_status status = Charge(w->device, more, w->name);
  if (status != DSOPT_OK) return status;
  status = Allocate(w->device->host, plain.bytes, w->name, &plain.values);
  if (status != DSOPT_OK) {
    Refund(w->device, more);
    return status;
  }
  plain.data = plain.values.data;
  std::memset(plain.data, 0, plain.bytes);
  uint16_t bits[kLosslessRun];
  for (uint64_t row = 0; row < w->batch * w->rows; ++row) {
    for (uint64_t first = 0; first < w->cols; first += kLosslessRun) {
      const uint64_t count = Min(kLosslessRun, w->cols - first);
      for (uint64_t i = 0; i < count; ++i) bits[i] = LosslessBits(w, row / w->rows, row % w->rows, first + i);
      PackElements(&plain, row * w->cols + first, count, bits);
    }
  }
  if (plain.bytes < w->bytes) Refund(w->device, w->bytes - plain.bytes);
  DestroyLossless(w);
  Release(w->device->host, &w->values);
  *w = plain;
  return DSOPT_OK;
}

}  // namespace

uint64_t EscapeReserve(const dsopt_be_weight& w) {
  return RoundUp(Elements(w) / 2048 * sizeof(Escape) + (w.batch * w.tiles + 1) * sizeof(uint32_t), 64);
}

dsopt_status CreateLossless(dsopt_be_weight* w) {
  Memory memory;
  const dsopt_status status = Allocate(w->device->host, sizeof(LosslessState), w->name, &memory);
  if (status != DSOPT_OK) return status;
  w->coded.lossless = new (memory.data) LosslessState;
  w->coded.lossless->memory = memory;
  return DSOPT_OK;
}

namespace {

void ReleaseParts(dsopt_be_weight* w) {
  LosslessState* s = w->coded.lossless;
  while (s->open != nullptr) {
    Memory memory = s->open->memory;
    s->open = s->open->next;
    Release(w->device->host, &memory);
  }
}

void DestroyState(dsopt_be_weight* w) {
  LosslessState* s = w->coded.lossless;
  if (s == nullptr) return;
  const dsopt_host_api* host = w->device->host;
  ReleaseParts(w);
  Release(host, &s->found_memory);
  Memory memory = s->memory;
  Release(host, &memory);
  w->coded.lossless = nullptr;
}

void ReleaseEscapes(dsopt_be_weight* w) {
  Release(w->device->host, &w->coded.escape_memory);
  w->coded.escapes = nullptr;
  w->coded.escape_first = nullptr;
}

}  // namespace

void DestroyLossless(dsopt_be_weight* w) {
  DestroyState(w);
  ReleaseEscapes(w);
}

dsopt_status RestartLossless(dsopt_be_weight* w) {
  LosslessState* s = w->coded.lossless;
  if (s == nullptr || s->written != 0)
    return Fail(w->device->host, DSOPT_E_INVALID_STATE, "weight '%s': elements were written twice", w->name);
  ReleaseParts(w);
  s->found_count = 0;
  return DSOPT_OK;
}

dsopt_status PackRun(dsopt_be_weight* w, uint64_t matrix, uint64_t output, uint64_t run, const uint16_t* values,
                     uint64_t count) {
  uint64_t tile, lane;
  Locate(*w, output, &tile, &lane);
  uint8_t* base_of_tile = TileAt(w, matrix, tile);
  uint32_t most = 0;
  for (uint64_t i = 0; i < count; ++i) most = Max(most, ExponentOf(values[i]));
  const uint32_t base = most >= 15 ? most - 15 : 0;
  HeadOf(w, base_of_tile, run)[lane] = static_cast<uint8_t>(base);
  // Both values of a step lie in one word of nibbles and one of the rest: even below, odd above.
  const uint32_t nibble = static_cast<uint32_t>(lane / 32 * 8 + lane / 16 % 2 * 4);
  const RestPlace rest = PlaceOfRest(lane);
  const auto code_of = [base](uint32_t bits) { return ExponentOf(bits) > base ? ExponentOf(bits) - base : 0; };
  const auto rest_of = [&rest](uint32_t bits) {
    return bits >> 15 << rest.sign | (bits & 0x7fu) << rest.mantissa;
  };
  bool escapes = false;
  uint8_t* step = StepOf(w, base_of_tile, run * (kLosslessRun / 2));
  for (uint64_t i = 0; i < count; i += 2, step += kCodeStepBytes[kLossless12]) {
    const uint32_t even = values[i], odd = i + 1 < count ? values[i + 1] : 0;
    Merge(NibbleWord(step, lane), 0x000f000fu << nibble, (code_of(even) | code_of(odd) << 16) << nibble);
    Merge(RestAt(step, lane, 0), rest.mask * 0x10001u, rest_of(even) | rest_of(odd) << 16);
    escapes = escapes || Escapes(even, base) || Escapes(odd, base);
  }
  for (uint64_t i = 0; escapes && i < count; ++i) {
    if (!Escapes(values[i], base)) continue;
    const uint64_t input = run * kLosslessRun + i;
    const Found found{
        matrix * w->tiles + tile,
        {static_cast<uint32_t>(input / 2), static_cast<uint16_t>(lane * 2 + input % 2), values[i]}};
    const dsopt_status status = AddEscape(w, found);
    if (status != DSOPT_OK) return status;
  }
  return DSOPT_OK;
}

dsopt_status PackLossless(dsopt_be_weight* w, uint64_t first, uint64_t count, const void* data) {
  if (count == 0) return DSOPT_OK;
  if (w->coded.lossless == nullptr || count > Elements(*w) - w->coded.lossless->written) {
    return Fail(w->device->host, DSOPT_E_INVALID_STATE, "weight '%s': elements were written twice", w->name);
  }
  const uint8_t* src = static_cast<const uint8_t*>(data);
  const auto whole = [w](uint64_t column, uint64_t length) {
    return length == Min(kLosslessRun, w->cols - column);
  };
  for (uint64_t done = 0; done < count;) {  // parts of runs: at the ends of what is written
    const uint64_t row = (first + done) / w->cols, column = (first + done) % w->cols;
    const uint64_t run = column / kLosslessRun, at = column % kLosslessRun;
    const uint64_t length = Min(Min(kLosslessRun - at, w->cols - column), count - done);
    if (at != 0 || !whole(column, length)) {
      const dsopt_status status = AddPart(w, row, run, at, length, src + done * 2);
      if (status != DSOPT_OK) return status;
    }
    done += length;
  }
  std::atomic<dsopt_status> failed{DSOPT_OK};
  ForEachPiece(*w, first, count, [&](uint64_t row, uint64_t column, uint64_t length, uint64_t at) {
    if (column % kLosslessRun != 0 || !whole(column, length)) return;
    uint16_t values[kLosslessRun];
    std::memcpy(values, src + at * 2, length * 2);
    const dsopt_status status = PackRun(w, row / w->rows, row % w->rows, column / kLosslessRun, values, length);
    if (status != DSOPT_OK) failed.store(status, std::memory_order_relaxed);
  });
  if (failed.load() != DSOPT_OK) return failed.load();
  if (w->coded.lossless->written + count == Elements(*w)) return FinishLossless(w);
  w->coded.lossless->written += count;
  return DSOPT_OK;
}

dsopt_status FinishLossless(dsopt_be_weight* w) {
  LosslessState* s = w->coded.lossless;
  const uint64_t tiles = w->batch * w->tiles;
  std::sort(s->found, s->found + s->found_count, [](const Found& a, const Found& b) {
    if (a.tile != b.tile) return a.tile < b.tile;
    return a.escape.step != b.escape.step ? a.escape.step < b.escape.step : a.escape.place < b.escape.place;
  });
  // Once each, also where a failed write was repeated.
  s->found_count = static_cast<uint64_t>(std::unique(s->found, s->found + s->found_count,
                                                     [](const Found& a, const Found& b) {
                                                       return a.tile == b.tile &&
                                                              a.escape.step == b.escape.step &&
                                                              a.escape.place == b.escape.place;
                                                     }) -
                                         s->found);
  const uint64_t count = s->found_count;
  const uint64_t list_bytes = count * sizeof(Escape), bytes = list_bytes + (tiles + 1) * sizeof(uint32_t);
  Memory memory;
  dsopt_status status = DSOPT_OK;
  const uint64_t more = bytes > EscapeReserve(*w) ? bytes - EscapeReserve(*w) : 0;
  dsopt_be_weight as_plain = *w;
  DescribePlain(&as_plain);
  const bool plain = count > UINT32_MAX || w->batch * w->matrix_bytes + bytes > as_plain.bytes;
  if (!plain) status = Charge(w->device, more, w->name);
  if (status != DSOPT_OK) return status;
  status = Allocate(w->device->host, bytes, w->name, &memory);
  if (status != DSOPT_OK) {
    if (!plain) Refund(w->device, more);
    return status;
  }
  Escape* list = reinterpret_cast<Escape*>(memory.data);
  uint32_t* first = reinterpret_cast<uint32_t*>(memory.data + list_bytes);
  uint64_t at = 0;
  for (uint64_t tile = 0; tile < tiles; ++tile) {
    first[tile] = static_cast<uint32_t>(at);
    for (; at < count && s->found[at].tile == tile; ++at) list[at] = s->found[at].escape;
  }
  first[tiles] = static_cast<uint32_t>(at);
  w->coded.escapes = list;
  w->coded.escape_first = first;
  w->coded.escape_memory = memory;
  if (plain) {
    status = BecomePlain(w);
    if (status != DSOPT_OK) ReleaseEscapes(w);
    return status;
  }
  w->bytes += more;
  DestroyState(w);
  return DSOPT_OK;
}

uint16_t LosslessBits(const dsopt_be_weight* w, uint64_t matrix, uint64_t output, uint64_t input) {
  uint64_t tile, lane;
  Locate(*w, output, &tile, &lane);
  const CodedTile view = ViewTile(w, matrix, tile);
  const auto step_number = static_cast<uint32_t>(input / 2);
  const auto place = static_cast<uint16_t>(lane * 2 + input % 2);
  const Escape* end = view.escapes + view.escape_count;
  const Escape* e = std::lower_bound(view.escapes, end, step_number,
                                     [](const Escape& escape, uint32_t step) { return escape.step < step; });
  for (; e != end && e->step == step_number; ++e) {
    if (e->place == place) return e->bits;
  }
  uint8_t* base_of_tile = TileAt(w, matrix, tile);
  uint8_t* step = StepOf(w, base_of_tile, step_number);
  const uint32_t code = *NibbleAt(step, lane, input % 2) >> (lane / 16 % 2 * 4) & 15u;
  const uint32_t base = HeadOf(w, base_of_tile, input / kLosslessRun)[lane];
  uint16_t word;
  std::memcpy(&word, RestAt(step, lane, input % 2), 2);
  const RestPlace rest = PlaceOfRest(lane);
  return static_cast<uint16_t>((word >> rest.sign & 1u) << 15 | (code == 0 ? 0 : code + base) << 7 |
                               (word >> rest.mantissa & 0x7fu));
}

}  // namespace dsopt_cpu
