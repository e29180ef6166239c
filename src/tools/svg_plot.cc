#include "tools/svg_plot.h"

#include <algorithm>
#include <cmath>

#include "base/status.h"

namespace dsopt::tools {
namespace {

// In SVG units: the whole picture and the area between the axes.
constexpr double kWidth = 640, kHeight = 320;
constexpr double kLeft = 70, kRight = 620, kTop = 40, kBottom = 260;
constexpr int kTicks = 5;
constexpr const char* kColours[] = {"#1f77b4", "#d95f02", "#2ca02c", "#7f3fbf"};

double At(double share, double from, double to) { return from + share * (to - from); }

std::string Label(double x, double y, const char* anchor, const std::string& text, const char* more = "") {
  return Format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s>%s</text>\n", x, y, anchor, more,
                HtmlText(text).c_str());
}

std::string Segment(double x1, double y1, double x2, double y2, const char* style) {
  return Format("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>\n", x1, y1, x2, y2,
                style);
}

// Opening tag, titles, y axis from low to high.
std::string Frame(const PlotText& text, double low, double high) {
  std::string svg = Format("<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s\">\n", kWidth, kHeight,
                           HtmlText(text.title).c_str());
  svg += Label(kWidth / 2, 20, "middle", text.title, " class=\"title\"");
  svg += Label((kLeft + kRight) / 2, kHeight - 8, "middle", text.x_axis);
  const double middle = (kTop + kBottom) / 2;
  svg += Label(14, middle, "middle", text.y_axis, Format(" transform=\"rotate(-90 14 %.1f)\"", middle).c_str());
  for (int i = 0; i <= kTicks; ++i) {
    const double share = static_cast<double>(i) / kTicks, y = At(share, kBottom, kTop);
    svg += Segment(kLeft, y, kRight, y, i == 0 ? "axis" : "grid");
    svg += Label(kLeft - 6, y + 4, "end", Format("%.4g", At(share, low, high)));
  }
  return svg + Segment(kLeft, kTop, kLeft, kBottom, "axis");
}

}  // namespace

std::string HtmlText(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string BarPlot(const PlotText& text, std::span<const Bar> bars) {
  uint64_t most = 1;
  for (const Bar& bar : bars) most = std::max(most, bar.count);
  std::string svg = Frame(text, 0, static_cast<double>(most));
  const double step = (kRight - kLeft) / static_cast<double>(std::max<size_t>(bars.size(), 1));
  for (size_t i = 0; i < bars.size(); ++i) {
    const double x = kLeft + static_cast<double>(i) * step;
    const double height = static_cast<double>(bars[i].count) / static_cast<double>(most) * (kBottom - kTop);
    svg += Format(
        "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"><title>%s: %llu</title>"
        "</rect>\n",
        x + step * 0.1, kBottom - height, step * 0.8, height, kColours[0], HtmlText(bars[i].label).c_str(),
        static_cast<unsigned long long>(bars[i].count));
    const double middle = x + step / 2;
    svg +=
        Label(middle + 4, kBottom + 8, "end", bars[i].label,
              Format(" class=\"small\" transform=\"rotate(-60 %.1f %.1f)\"", middle + 4, kBottom + 8).c_str());
  }
  return svg + "</svg>\n";
}

std::string LinePlot(const PlotText& text, std::span<const Line> lines) {
  double low = INFINITY, high = -INFINITY;
  size_t steps = 2;
  for (const Line& line : lines) {
    steps = std::max(steps, line.values.size());
    for (double value : line.values) {
      if (!std::isfinite(value)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  if (!(low <= high)) low = high = 0;
  const double margin = std::max((high - low) * 0.05, std::max(std::fabs(high), 1e-9) * 1e-3);
  low -= margin;
  high += margin;
  std::string svg = Frame(text, low, high);
  for (size_t i = 0; i < lines.size(); ++i) {
    const char* colour = kColours[i % std::size(kColours)];
    std::string points;
    for (size_t step = 0; step < lines[i].values.size(); ++step) {
      const double value = lines[i].values[step];
      if (!std::isfinite(value)) continue;
      points +=
          Format("%.1f,%.1f ", At(static_cast<double>(step) / static_cast<double>(steps - 1), kLeft, kRight),
                 At((value - low) / (high - low), kBottom, kTop));
    }
    svg += Format("<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"%s\"/>\n", points.c_str(),
                  colour, i == 0 ? "3" : "1.2");
    const double x = kLeft + 10 + 250 * static_cast<double>(i);
    svg += Format("<rect x=\"%.1f\" y=\"27\" width=\"12\" height=\"6\" fill=\"%s\"/>\n", x, colour);
    svg += Label(x + 18, 34, "start", lines[i].name, " class=\"small\"");
  }
  svg += Label(kLeft, kBottom + 18, "middle", "0") +
         Label(kRight, kBottom + 18, "middle", Format("%zu", steps - 1));
  return svg + "</svg>\n";
}

std::string UnitScatterPlot(const PlotText& text, std::span<const Point> points) {
  std::string svg = Frame(text, 0, 1);
  svg += Segment(kLeft, kBottom, kRight, kTop, "axis");
  for (const Point& point : points) {
    svg += Format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"1.8\" fill=\"%s\" fill-opacity=\"0.4\"/>\n",
                  At(point.x, kLeft, kRight), At(point.y, kBottom, kTop), kColours[1]);
  }
  for (int i = 0; i <= kTicks; ++i) {
    const double share = static_cast<double>(i) / kTicks;
    svg += Label(At(share, kLeft, kRight), kBottom + 18, "middle", Format("%.1f", share));
  }
  return svg + "</svg>\n";
}

}  // namespace dsopt::tools
