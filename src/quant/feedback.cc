#include "quant/feedback.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "quant/pieces.h"

namespace dsopt {
namespace {

constexpr double kDamp = 0.01;    // of the mean of the diagonal
constexpr int kDampings = 4;      // 0.01 to 10
constexpr uint64_t kPanel = 64;   // columns that are factored at a time
constexpr uint64_t kWidth = 128;  // blocks start at multiples of it, and so of int4's groups

// Sixteen sums that a compiler keeps in vector registers.
float Dot(const float* a, const float* b, uint64_t count) {
  constexpr uint64_t kLanes = 16;
  float lanes[kLanes] = {};
  uint64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (uint64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  }
  for (uint64_t width = kLanes / 2; width > 0; width /= 2) {
    for (uint64_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  for (; i < count; ++i) lanes[0] += a[i] * b[i];
  return lanes[0];
}

// The lower triangle of `m` becomes its Cholesky factor, panels of columns after each other, rows of a panel in
// parallel. false: not positive definite.
bool Cholesky(uint64_t n, uint32_t threads, std::vector<float>* m) {
  float* a = m->data();
  const auto entry = [a, n](uint64_t row, uint64_t col) {
    a[row * n + col] -= Dot(&a[row * n], &a[col * n], col);
  };
  for (uint64_t first = 0; first < n; first += kPanel) {
    const uint64_t last = std::min(first + kPanel, n);
    for (uint64_t row = first; row < last; ++row) {
      for (uint64_t col = first; col <= row; ++col) {
        entry(row, col);
        if (col < row) a[row * n + col] /= a[col * n + col];
      }
      float& pivot = a[row * n + row];
      if (!(pivot > 0.0f) || !std::isfinite(pivot)) return false;
      pivot = std::sqrt(pivot);
    }
    InPieces(n - last, threads, [&](uint64_t begin, uint64_t end) {
      for (uint64_t row = last + begin; row < last + end; ++row) {
        for (uint64_t col = first; col < last; ++col) {
          entry(row, col);
          a[row * n + col] /= a[col * n + col];
        }
      }
    });
  }
  return true;
}

}  // namespace

std::vector<MomentBlock> MakeMomentBlocks(uint64_t cols) {
  const uint64_t count = (cols + kMostBlock - 1) / kMostBlock;
  const uint64_t width = count <= 1 ? cols : ((cols + count - 1) / count + kWidth - 1) / kWidth * kWidth;
  std::vector<MomentBlock> blocks;
  for (uint64_t first = 0; first < cols; first += width) {
    MomentBlock& block = blocks.emplace_back();
    block.first = first;
    block.cols = std::min(width, cols - first);
    block.sums.resize(block.cols * block.cols);
  }
  return blocks;
}

std::optional<Feedback> Feedback::Create(const MomentBlock& block, uint32_t threads) {
  const uint64_t n = block.cols;
  double trace = 0;
  for (uint64_t i = 0; i < n; ++i) trace += static_cast<double>(block.sums[i * n + i]);
  if (!(trace > 0) || !std::isfinite(trace)) return std::nullopt;
  const double mean = trace / static_cast<double>(n);

  Feedback feedback;
  feedback.first = block.first;
  feedback.cols = n;
  feedback.order.resize(n);
  std::iota(feedback.order.begin(), feedback.order.end(), 0u);
  std::stable_sort(feedback.order.begin(), feedback.order.end(),
                   [&](uint32_t a, uint32_t b) { return block.sums[a * n + a] > block.sums[b * n + b]; });
  std::vector<float> lower(n * n);  // of the columns in the opposite order, in units of the mean
  double damp = kDamp;
  for (int attempt = 0;; ++attempt, damp *= 10) {
    if (attempt == kDampings) return std::nullopt;
    for (uint64_t i = 0; i < n; ++i) {
      const uint64_t row = feedback.order[n - 1 - i];
      for (uint64_t k = 0; k <= i; ++k) {
        const double sum = static_cast<double>(block.sums[row * n + feedback.order[n - 1 - k]]);
        lower[i * n + k] = static_cast<float>(sum / mean + (i == k ? damp : 0.0));
      }
    }
    if (Cholesky(n, threads, &lower)) break;
  }
  feedback.factors.resize(n * n);
  for (uint64_t k = 0; k < n; ++k) {
    const uint64_t col = n - 1 - k;
    for (uint64_t i = 0; i < k; ++i)
      feedback.factors[k * n + i] = lower[(n - 1 - i) * n + col] / lower[col * n + col];
  }
  lower = {};
  feedback.ratios.resize(n * n);
  for (uint64_t k = 0; k < n; ++k) {
    const float* row = &block.sums[feedback.order[k] * n];
    const double own = static_cast<double>(row[feedback.order[k]]) + damp * mean;
    for (uint64_t i = 0; i < n; ++i) {
      if (i != k)
        feedback.ratios[k * n + i] = static_cast<float>(static_cast<double>(row[feedback.order[i]]) / own);
    }
  }
  return feedback;
}

}  // namespace dsopt
