#include "ticks.h"

#include <algorithm>
#include <cmath>

int64_t Percentile(const std::vector<int64_t>& sorted, double p) {
  if (sorted.empty()) return 0;
  const auto rank = static_cast<size_t>(std::ceil(p * static_cast<double>(sorted.size())));
  return sorted[std::clamp<size_t>(rank, 1, sorted.size()) - 1];
}

std::vector<size_t> Histogram(const std::vector<int64_t>& values) {
  std::vector<size_t> bins(kBins, 0);
  for (const int64_t ns : values) {
    const double decades = std::log10(std::max<double>(static_cast<double>(ns), 1) / 1000);
    ++bins[static_cast<size_t>(std::clamp(static_cast<int>(decades * 10), 0, kBins - 1))];
  }
  return bins;
}

size_t TickLog::Count(bool inference) const {
  return static_cast<size_t>(
      std::count_if(ticks_.begin(), ticks_.end(), [&](const Tick& t) { return t.inference == inference; }));
}

void TickLog::Hear(const std::vector<Stall>& stalls) {
  for (Tick& tick : ticks_)
    for (const Stall& stall : stalls)
      tick.away += std::max<int64_t>(0, std::min(tick.done, stall.to) - std::max(tick.from, stall.from));
}

std::vector<Row> TickLog::Rows() const {
  const auto collect = [&](const char* name, bool polled_only, int64_t (*value)(const Tick&)) {
    Row row{name, {}, {}};
    for (const Tick& t : ticks_) {
      if (polled_only && !t.polled) continue;
      (t.inference ? row.with : row.without).push_back(value(t));
    }
    std::sort(row.with.begin(), row.with.end());
    std::sort(row.without.begin(), row.without.end());
    return row;
  };
  return {
      collect("own work, wall", false, [](const Tick& t) { return t.own_wall; }),
      collect("own work, CPU", false, [](const Tick& t) { return t.own_cpu; }),
      collect("whole tick (own work + poll)", false, [](const Tick& t) { return t.own_wall + t.poll_wall; }),
      collect("wake-up after the release", false, [](const Tick& t) { return t.late; }),
      collect("release to own work done", false, [](const Tick& t) { return t.response; }),
      collect("poll, wall", true, [](const Tick& t) { return t.poll_wall; }),
      collect("poll beyond its budget, wall", true,
              [](const Tick& t) { return std::max<int64_t>(0, t.poll_wall - t.budget); }),
      collect("poll beyond its budget, CPU", true,
              [](const Tick& t) { return std::max<int64_t>(0, t.poll_cpu - t.budget); })};
}

namespace {

constexpr size_t kMostListed = 12;  // missed ticks that are told one by one

void PrintBars(std::FILE* out, const char* title, const std::vector<int64_t>& values) {
  if (values.empty()) return;
  std::fprintf(out, "%s, %zu ticks\n", title, values.size());
  const std::vector<size_t> bins = Histogram(values);
  for (int i = 0; i < kBins; i += 2) {  // a fifth of a decade a line
    const size_t count = bins[static_cast<size_t>(i)] + bins[static_cast<size_t>(i) + 1];
    if (count == 0) continue;
    const int bar =
        static_cast<int>(std::ceil(60 * static_cast<double>(count) / static_cast<double>(values.size())));
    std::fprintf(out, "  %8.3f ms %7zu  %.*s\n", std::pow(10, i / 10.0) / 1000, count, bar,
                 "############################################################");
  }
}

void PrintSide(std::FILE* out, const std::vector<int64_t>& v) {
  if (v.empty()) {
    std::fprintf(out, "  |  %35s", "");
    return;
  }
  std::fprintf(out, "  | %8.3f %8.3f %8.3f %8.3f", static_cast<double>(Percentile(v, 0.5)) / 1e6,
               static_cast<double>(Percentile(v, 0.99)) / 1e6, static_cast<double>(Percentile(v, 0.999)) / 1e6,
               static_cast<double>(v.back()) / 1e6);
}

}  // namespace

void TickLog::Print(std::FILE* out) const {
  const std::vector<Row> rows = Rows();
  std::fprintf(out, "\n%-29s  | without inference, ms%15s  | with inference, ms\n", "", "");
  std::fprintf(out, "%-29s", "");
  for (int side = 0; side < 2; ++side) std::fprintf(out, "  | %8s %8s %8s %8s", "p50", "p99", "p99.9", "max");
  std::fprintf(out, "\n");
  for (const Row& row : rows) {
    std::fprintf(out, "%-29s", row.name);
    PrintSide(out, row.without);
    PrintSide(out, row.with);
    std::fprintf(out, "\n");
  }
  std::fprintf(out, "\n");
  PrintBars(out, "whole tick without inference", rows[2].without);
  PrintBars(out, "whole tick with inference", rows[2].with);
  PrintVerdict(out);
}

void TickLog::PrintVerdict(std::FILE* out) const {
  std::fprintf(out,
               "\nA tick is missed if its own work is not done 10 ms after its release. It is missed by the "
               "program if CPU time explains\n"
               "it: own work, and the poll before it beyond its budget, less what a witness thread on another "
               "core missed too. Else\nthe machine was away or gave the core to others.\n");
  size_t listed = 0, left = 0;
  for (const Tick& t : ticks_) {
    if (!Missed(t)) continue;
    if (++listed > kMostListed && !MissedByProgram(t)) {
      ++left;
      continue;
    }
    const auto ms = [](int64_t ns) { return static_cast<double>(ns) / 1e6; };
    std::fprintf(out,
                 "  missed at tick %td: done after %.2f ms; own CPU %.2f, poll before it beyond budget %.2f, "
                 "witness away %.2f ms%s\n",
                 &t - ticks_.data(), ms(t.response), ms(t.own_cpu), ms(t.carried_cpu), ms(t.away),
                 MissedByProgram(t) ? ": BY THE PROGRAM" : "");
  }
  if (left > 0) std::fprintf(out, "  and %zu more, none of them by the program\n", left);
  for (const bool inference : {false, true}) {
    const auto count = [&](bool (*test)(const Tick&)) {
      return std::count_if(ticks_.begin(), ticks_.end(),
                           [&](const Tick& t) { return t.inference == inference && test(t); });
    };
    std::fprintf(out, "missed ticks %s inference: %td of %zu (by the program: %td)\n",
                 inference ? "with" : "without", count(Missed), Count(inference), count(MissedByProgram));
  }
}
