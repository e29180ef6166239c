// ops_reference.cc - see ops_reference.h.
#include "ops_reference.h"

#include <cmath>

namespace dsopt::ops_test {

double Activate(dsopt_activation activation, double x) {
  if (activation == DSOPT_ACT_SILU) return x / (1.0 + std::exp(-x));
  if (activation == DSOPT_ACT_GELU_TANH) {
    return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
  }
  return x;
}

Bounded Exactly(const Values& values) { return {values, Values(values.size(), 0.0)}; }

Bounded RmsNormReference(const Values& x, size_t cols, const Values* weight, double eps) {
  Bounded out = Exactly(x);
  for (size_t row = 0; row < x.size() / cols; ++row) {
    double squares = 0.0;
    for (size_t i = 0; i < cols; ++i) squares += x[row * cols + i] * x[row * cols + i];
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(cols) + eps);
    for (size_t i = 0; i < cols; ++i) {
      const double y = x[row * cols + i] * scale * (weight != nullptr ? (*weight)[i] : 1.0);
      out.value[row * cols + i] = y;
      out.error[row * cols + i] = kF32Error * std::fabs(y) + 1e-12;
    }
  }
  return out;
}

Bounded LinearReference(const Bounded& x, size_t inputs, const double* weight, size_t outputs,
                        const Values* bias) {
  const size_t rows = x.value.size() / inputs;
  Bounded out = Exactly(Values(rows * outputs));
  for (size_t r = 0; r < rows; ++r) {
    for (size_t o = 0; o < outputs; ++o) {
      double sum = bias != nullptr ? (*bias)[o] : 0.0, magnitude = std::fabs(sum), inherited = 0.0;
      for (size_t i = 0; i < inputs; ++i) {
        const double w = weight[o * inputs + i], term = x.value[r * inputs + i] * w;
        sum += term;
        magnitude += std::fabs(term);
        inherited += x.error[r * inputs + i] * std::fabs(w);
      }
      out.value[r * outputs + o] = sum;
      out.error[r * outputs + o] = kF32Error * magnitude + inherited + 1e-12;
    }
  }
  return out;
}

Bounded GatedReference(const Bounded& x, size_t hidden, const double* gate_up, const double* down, size_t inner,
                       dsopt_activation activation, dsopt_dtype middle) {
  const Bounded wide = LinearReference(x, hidden, gate_up, 2 * inner, nullptr);
  const size_t rows = x.value.size() / hidden;
  Bounded mid = Exactly(Values(rows * inner));
  for (size_t r = 0; r < rows; ++r) {
    for (size_t i = 0; i < inner; ++i) {
      const size_t gate = r * 2 * inner + i, up = gate + inner;
      const double a = Activate(activation, wide.value[gate]), y = a * wide.value[up];
      mid.value[r * inner + i] = y;
      mid.error[r * inner + i] = 1.2 * wide.error[gate] * std::fabs(wide.value[up]) +
                                 std::fabs(a) * wide.error[up] + (RoundingOf(middle) + 1e-5) * std::fabs(y);
    }
  }
  return LinearReference(mid, inner, down, hidden, nullptr);
}

void CheckOutput(Tensor* found, const Bounded& expected, const std::string& what) {
  Values tolerance = expected.error;
  for (size_t i = 0; i < tolerance.size(); ++i) {
    tolerance[i] += RoundingOf(found->view.dtype) * std::fabs(expected.value[i]);
  }
  CheckClose(found->Read(), expected.value, tolerance, what);
}

}  // namespace dsopt::ops_test
