#include "quant/lossless12.h"

#include <algorithm>

namespace dsopt {

void Lossless12Counter::AddRow(const uint16_t* bits, uint64_t cols) {
  const auto exponent = [bits](uint64_t i) { return static_cast<uint32_t>(bits[i] >> 7 & 0xffu); };
  for (uint64_t first = 0; first < cols; first += kRun) {
    const uint64_t last = std::min(first + kRun, cols);
    uint32_t most = 0, escapes = 0;
    for (uint64_t i = first; i < last; ++i) most = std::max(most, exponent(i));
    for (uint64_t i = first; i < last; ++i) escapes += exponent(i) != 0 && exponent(i) + 15 <= most ? 1u : 0u;
    escapes_ += escapes;
    ++runs_;
  }
  weights_ += cols;
}

double Lossless12Counter::BitsPerWeight() const {
  if (weights_ == 0) return 16.0;
  const double extra = 8.0 * static_cast<double>(runs_) + 64.0 * static_cast<double>(escapes_);
  return 12.0 + extra / static_cast<double>(weights_);
}

}  // namespace dsopt
