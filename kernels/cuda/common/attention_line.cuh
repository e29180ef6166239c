// attention_line.cuh - attention over a paged cache as one line of items (pages, or parts of one): a row has
// works, which read the same items; all works of a row follow each other, then those of the next row. Kernels
// cut the line into equal ranges.
#ifndef DSOPT_CUDA_COMMON_ATTENTION_LINE_CUH_
#define DSOPT_CUDA_COMMON_ATTENTION_LINE_CUH_

namespace dsopt_cuda {

// An item of the line. Line: has works, of a row, and before[row], the items of one work of the rows before it.
// row_from: the item is not of an earlier row.
struct Place {
  int row, work, item, items;  // item: counted from the work's first one
  template <class Line>
  __device__ Place(const Line& line, int at, int row_from) : row(row_from) {
    while (at >= line.before[row + 1] * line.works) ++row;
    items = line.before[row + 1] - line.before[row];
    const int rest = at - line.before[row] * line.works;
    work = rest / items;
    item = rest - work * items;
  }
};

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_COMMON_ATTENTION_LINE_CUH_
