// svg_plot.h - three kinds of plot as SVG elements for a page. Knows nothing of models.
#ifndef DSOPT_TOOLS_SVG_PLOT_H_
#define DSOPT_TOOLS_SVG_PLOT_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/logits_compare.h"

namespace dsopt::tools {

// &, <, >, " and ' as entities.
std::string HtmlText(std::string_view text);

struct Bar {
  std::string label;  // below the bar
  uint64_t count = 0;
};

struct Line {
  std::string name;
  std::vector<double> values;  // one per step of the x axis
};

struct PlotText {
  std::string title, x_axis, y_axis;
};

std::string BarPlot(const PlotText& text, std::span<const Bar> bars);
// Values that are not finite are left out.
std::string LinePlot(const PlotText& text, std::span<const Line> lines);
// Both axes from 0 to 1, with the diagonal.
std::string UnitScatterPlot(const PlotText& text, std::span<const Point> points);

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_SVG_PLOT_H_
