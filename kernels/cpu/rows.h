// rows.h - any number of activation rows against one 64-wide tile.
#ifndef DSOPT_CPU_ROWS_H_
#define DSOPT_CPU_ROWS_H_

#include "common.h"

namespace dsopt_cpu {

// acc row i (stride ld) = in[i] times the tile; see LinearFn.
inline void MultiplyRows(const Kernels& k, LinearFn function, const void* tile, uint32_t steps,
                         const void* const* in, uint32_t count, float* acc, uint32_t ld, uint32_t flags) {
  const uint32_t calls = static_cast<uint32_t>(DivUp(count, k.micro_rows));
  const uint32_t rows = static_cast<uint32_t>(DivUp(count, calls));  // evenly: a lone row wastes the registers
  for (uint32_t i = 0; i < count; i += rows) {
    function(tile, steps, in + i, Min(rows, count - i), acc + uint64_t{i} * ld, ld, flags);
  }
}

}  // namespace dsopt_cpu
#endif  // DSOPT_CPU_ROWS_H_
