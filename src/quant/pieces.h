// pieces.h - a loop over independent items on several threads.
#ifndef DSOPT_QUANT_PIECES_H_
#define DSOPT_QUANT_PIECES_H_

#include <algorithm>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

namespace dsopt {

// work(first, last) over [0, count) in up to `threads` pieces; on this thread alone if no other can be had.
template <typename Work>
void InPieces(uint64_t count, uint32_t threads, const Work& work) {
  const uint64_t pieces = std::max<uint64_t>(1, std::min<uint64_t>(threads, count));
  std::vector<std::thread> others;
  uint64_t done = 0;
  for (uint64_t i = 0; i + 1 < pieces; ++i) {
    const uint64_t first = count * i / pieces, last = count * (i + 1) / pieces;
    try {
      others.emplace_back(work, first, last);
    } catch (const std::system_error&) {
      break;
    }
    done = last;
  }
  work(done, count);
  for (std::thread& other : others) other.join();
}

}  // namespace dsopt
#endif  // DSOPT_QUANT_PIECES_H_
