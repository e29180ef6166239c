// validate_html.cc - the page of a comparison: a table and three plots.
#include <cmath>

#include "tools/svg_plot.h"
#include "tools/validate_report.h"

namespace dsopt::tools {
namespace {

constexpr const char* kStyle =
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;"
    "background:#fff}"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
    "th,td{padding:.3rem .5rem;text-align:right;border-bottom:1px solid #ddd}"
    "th:first-child,td:first-child{text-align:left;overflow-wrap:anywhere}"
    "tr.all td{font-weight:600}svg{width:100%;height:auto;margin:1rem 0}"
    "svg text{font:12px system-ui,sans-serif;fill:#333}svg .title{font-size:14px;font-weight:600}"
    "svg .small{font-size:10px}.axis{stroke:#555}.grid{stroke:#ddd}";

std::string Cells(const std::string& name, const DifferenceSum& sum, bool all) {
  return Format(
      "<tr%s><td>%s</td><td>%llu</td><td>%.6f</td><td>%.6f</td><td>%+.4f %%</td><td>%.3e</td><td>%.3e</td>"
      "<td>%.3f %%</td><td>%.3f %%</td><td>%.3e</td></tr>\n",
      all ? " class=\"all\"" : "", HtmlText(name).c_str(), static_cast<unsigned long long>(sum.rows()),
      sum.perplexity(), sum.reference_perplexity(), sum.change_percent(), sum.mean_kl(), sum.worst_kl(),
      sum.top1() * 100, sum.top5() * 100, sum.largest_error());
}

std::string Table(const Comparison& comparison) {
  std::string html =
      "<table><tr><th>text</th><th>tokens</th><th>perplexity</th><th>reference</th><th>change</th><th>mean "
      "KL</th>"
      "<th>worst KL</th><th>top-1</th><th>top-5</th><th>logit error</th></tr>\n";
  for (const TextComparison& text : comparison.texts) html += Cells(text.text, text.sum, false);
  return html + Cells("all", comparison.total, true) + "</table>\n";
}

std::string ModelLine(const char* role, const ModelSummary& model) {
  return Format("<li>%s: <code>%s</code>, %s, %s, %s of weights</li>\n", role, HtmlText(model.file).c_str(),
                HtmlText(model.device).c_str(), HtmlText(model.precision).c_str(),
                HumanBytes(model.weight_bytes).c_str());
}

std::string KlPlot(const DifferenceSum& sum) {
  std::vector<Bar> bars;
  for (size_t bin = 0; bin < kKlBins; ++bin) {
    const double end = KlBinEnd(bin);
    bars.push_back({std::isfinite(end) ? Format("< %.0e", end) : std::string("more"), sum.kl_histogram()[bin]});
  }
  return BarPlot({"KL divergence of each token", "nats", "tokens"}, bars);
}

std::string PerplexityPlot(const Comparison& comparison) {
  Line reference{"reference", {}}, model{"model", {}};
  for (const TextComparison& text : comparison.texts) {
    for (const Point& window : text.window_perplexity) {
      reference.values.push_back(window.x);
      model.values.push_back(window.y);
    }
  }
  const Line lines[] = {std::move(reference), std::move(model)};
  return LinePlot({"perplexity of each window", "window, texts one after the other", "perplexity"}, lines);
}

}  // namespace

std::string ComparisonHtml(const Comparison& comparison, uint32_t window) {
  std::string html =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width\"><title>dsopt validate</title><style>";
  html += kStyle;
  html += "</style></head><body>\n<h1>dsopt validate</h1>\n<ul>\n";
  html += ModelLine("model", comparison.model) + ModelLine("reference", comparison.reference);
  html += Format(
      "</ul>\n<p>Windows of %u tokens, each after the begin token if the model has one. KL divergence is of "
      "the model from the reference, in nats per token. Top-1: both hold the same token most probable; "
      "top-5: the share of the reference's five most probable tokens among the model's five. Logit error: "
      "the largest difference of a logit.</p>\n",
      window);
  html += Table(comparison) + KlPlot(comparison.total) + PerplexityPlot(comparison);
  html += UnitScatterPlot(
      {"probability of the reference's most probable token", "by the reference", "by the model"},
      comparison.top_probability.points());
  return html + "</body></html>\n";
}

}  // namespace dsopt::tools
