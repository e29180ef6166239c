// linear.cc - cuts a matrix product into units and runs them. The arithmetic is in isa/linear.inc.
#include "build.h"
#include "coded.h"

namespace dsopt_cpu {
namespace {

constexpr uint64_t kStreamBytes = 512 << 10;  // weights of one unit when they are read once

// Rows and tiles of a unit, from what takes a core about 50 us.
void CutLinear(const dsopt_be_program* p, const LinearOp& op, uint64_t rows, Geometry* g) {
  const dsopt_be_weight& w = *op.weight;
  const uint64_t unit_flops = p->device->kernels->unit_flops;
  const uint64_t row_flops = 2 * kTileRows * w.inputs;  // one row through one tile
  g->rows = rows;
  g->row_step = Max<uint64_t>(unit_flops / row_flops, 1);
  const uint64_t micro = p->device->kernels->micro_rows;
  if (g->row_step >= micro) g->row_step -= g->row_step % micro;
  g->row_step = Min(g->row_step, RoundUp(rows, micro));
  g->row_blocks = DivUp(rows, g->row_step);
  const uint64_t block_rows = Min(g->row_step, rows);
  g->tile_step = Min(kStreamBytes / w.tile_bytes, unit_flops / (row_flops * block_rows));
  const uint64_t spread = w.batch * w.tiles * g->row_blocks / (4 * p->device->pool->threads());
  g->tile_step = Max<uint64_t>(1, Min(g->tile_step, spread));
  g->tile_groups = DivUp(w.tiles, g->tile_step);
}

uint32_t PrepareExperts(dsopt_be_program* p, const LinearOp& op) {
  const uint64_t experts = op.weight->batch;
  const Mixture& m = p->mixture;
  uint64_t most = 0, units = 0;
  for (uint64_t e = 0; e < experts; ++e) most = Max<uint64_t>(most, m.first[e + 1] - m.first[e]);
  Geometry& g = p->geometry;
  CutLinear(p, op, most, &g);
  for (uint64_t e = 0; e < experts; ++e) {
    m.unit_first[e] = static_cast<uint32_t>(units);
    units += DivUp(m.first[e + 1] - m.first[e], g.row_step) * g.tile_groups;
  }
  m.unit_first[experts] = static_cast<uint32_t>(units);
  return static_cast<uint32_t>(units);
}

// The expert that holds a unit.
uint32_t FindExpert(const Mixture& m, uint32_t experts, uint32_t unit) {
  uint32_t low = 0, high = experts;
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    if (m.unit_first[middle] <= unit) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// Rows [first, last) of a row list through one tile. list NULL: row i is row i.
void RunTile(const dsopt_be_program* p, const LinearOp& op, uint64_t matrix, uint64_t tile, uint64_t first,
             uint64_t last, const uint32_t* list, uint32_t list_divisor, float* acc) {
  const dsopt_be_weight& w = *op.weight;
  const bool gate = op.epilogue.kind == kGate;
  const uint64_t column = tile * (gate ? kTileRows / 2 : kTileRows);
  const uint64_t wide = gate ? kTileRows / 2 : kTileRows;
  if (column >= op.epilogue.columns) return;
  Epilogue e = op.epilogue;
  e.columns = static_cast<uint32_t>(Min<uint64_t>(op.epilogue.columns - column, wide));
  if (e.bias != nullptr) e.bias += column;
  if (e.bias_up != nullptr) e.bias_up += column;
  const uint8_t* in_base = op.in + (list != nullptr ? 0 : matrix * op.in_matrix_bytes);
  uint8_t* out_base =
      op.out + (list != nullptr ? 0 : matrix * op.out_matrix_bytes) + column * StorageBytes(e.out);
  const void* weights = Tile(&w, matrix, tile);
  const CodedTile coded = op.coded != nullptr ? ViewTile(&w, matrix, tile) : CodedTile{};
  const uint32_t step = p->device->kernels->micro_rows;
  for (uint64_t i = first; i < last; i += step) {
    const uint32_t rows = static_cast<uint32_t>(Min<uint64_t>(step, last - i));
    const void* in[kMicroRows];
    void* out[kMicroRows];
    for (uint32_t r = 0; r < rows; ++r) {
      const uint64_t slot = list != nullptr ? list[i + r] : i + r;
      in[r] = in_base + (slot / list_divisor) * op.in_row_bytes;
      out[r] = out_base + slot * op.out_row_bytes;
    }
    if (op.coded != nullptr) {
      op.coded(coded, in, rows, acc);
    } else {
      op.function(weights, static_cast<uint32_t>(w.steps), in, rows, acc, kTileRows, 0);
    }
    p->device->kernels->epilogue(e, acc, rows, out);
  }
}

}  // namespace

uint32_t PrepareLinear(dsopt_be_program* p, const Phase& phase) {
  const LinearOp& op = phase.linear;
  if (op.rows == RowSet::kExperts) return PrepareExperts(p, op);
  const uint64_t rows = op.rows == RowSet::kLogits ? p->batch.logit_rows : Rows(p);
  if (rows == 0) return 0;
  Geometry& g = p->geometry;
  CutLinear(p, op, rows, &g);
  return static_cast<uint32_t>(op.weight->batch * g.tile_groups * g.row_blocks);
}

void RunLinear(dsopt_be_program* p, const Phase& phase, uint32_t unit, Scratch* scratch) {
  const LinearOp& op = phase.linear;
  const Geometry& g = p->geometry;
  uint64_t matrix, rows = g.rows, row_blocks = g.row_blocks;
  const uint32_t* list = nullptr;
  uint32_t divisor = 1;
  if (op.rows == RowSet::kExperts) {
    const Mixture& m = p->mixture;
    matrix = FindExpert(m, static_cast<uint32_t>(op.weight->batch), unit);
    unit -= m.unit_first[matrix];
    list = m.order + m.first[matrix];
    rows = m.first[matrix + 1] - m.first[matrix];
    row_blocks = DivUp(rows, g.row_step);
    if (op.in_per_row) divisor = phase.block->u.moe.top_k;
  } else {
    matrix = unit / (g.tile_groups * row_blocks);
    unit = static_cast<uint32_t>(unit % (g.tile_groups * row_blocks));
  }
  const uint64_t first_tile = unit / row_blocks * g.tile_step;
  const uint64_t last_tile = Min(first_tile + g.tile_step, op.weight->tiles);
  const uint64_t first = unit % row_blocks * g.row_step;
  const uint64_t last = Min(first + g.row_step, rows);
  for (uint64_t tile = first_tile; tile < last_tile; ++tile) {
    RunTile(p, op, matrix, tile, first, last, list, divisor, scratch->acc);
  }
}

}  // namespace dsopt_cpu
