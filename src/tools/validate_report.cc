#include "tools/validate_report.h"

#include <cmath>

namespace dsopt::tools {
namespace {

using ull = unsigned long long;

std::string TableRow(const std::string& name, const DifferenceSum& sum) {
  return Format("%-28s %9llu %12.6f %12.6f %+9.4f%% %10.3e %10.3e %8.3f%% %8.3f%% %10.3e\n", name.c_str(),
                static_cast<ull>(sum.rows()), sum.perplexity(), sum.reference_perplexity(), sum.change_percent(),
                sum.mean_kl(), sum.worst_kl(), sum.top1() * 100, sum.top5() * 100, sum.largest_error());
}

// The end of a path, as far as it fits.
std::string ShortName(const std::string& path) {
  const std::string name = path.substr(path.find_last_of('/') + 1);
  return name.size() <= 28 ? name : name.substr(name.size() - 28);
}

Json SumJson(const DifferenceSum& sum) {
  return {{"tokens", sum.rows()},
          {"perplexity", sum.perplexity()},
          {"reference_perplexity", sum.reference_perplexity()},
          {"perplexity_change_percent", sum.change_percent()},
          {"mean_kl", sum.mean_kl()},
          {"worst_kl", sum.worst_kl()},
          {"top1_agreement", sum.top1()},
          {"top5_agreement", sum.top5()},
          {"largest_logit_error", sum.largest_error()}};
}

Json ModelJson(const ModelSummary& model) {
  return {{"file", model.file},
          {"device", model.device},
          {"precision", model.precision},
          {"weight_bytes", model.weight_bytes}};
}

Json HistogramJson(const DifferenceSum& sum) {
  Json bins = Json::array();
  for (size_t bin = 0; bin < kKlBins; ++bin) {
    const double end = KlBinEnd(bin);
    bins.push_back(
        {{"below", std::isfinite(end) ? Json(end) : Json(nullptr)}, {"tokens", sum.kl_histogram()[bin]}});
  }
  return bins;
}

}  // namespace

std::string ComparisonTable(const Comparison& comparison) {
  std::string table =
      Format("model      %s, %s, %s, %s of weights\nreference  %s, %s, %s, %s of weights\n",
             comparison.model.file.c_str(), comparison.model.device.c_str(), comparison.model.precision.c_str(),
             HumanBytes(comparison.model.weight_bytes).c_str(), comparison.reference.file.c_str(),
             comparison.reference.device.c_str(), comparison.reference.precision.c_str(),
             HumanBytes(comparison.reference.weight_bytes).c_str());
  table += Format("%-28s %9s %12s %12s %10s %10s %10s %9s %9s %10s\n", "text", "tokens", "perplexity",
                  "reference", "change", "mean KL", "worst KL", "top-1", "top-5", "logit err");
  for (const TextComparison& text : comparison.texts) table += TableRow(ShortName(text.text), text.sum);
  if (comparison.texts.size() > 1) table += TableRow("all", comparison.total);
  return table;
}

Json ComparisonJson(const Comparison& comparison, uint32_t window) {
  Json texts = Json::array();
  for (const TextComparison& text : comparison.texts) {
    Json object = {{"text", text.text}, {"windows", text.windows}};
    object.update(SumJson(text.sum));
    object["worst_kl_window"] = text.worst_window;
    object["worst_kl_position"] = text.worst_position;
    texts.push_back(object);
  }
  return {{"model", ModelJson(comparison.model)},
          {"reference", ModelJson(comparison.reference)},
          {"window", window},
          {"all", SumJson(comparison.total)},
          {"texts", texts},
          {"kl_histogram", HistogramJson(comparison.total)}};
}

}  // namespace dsopt::tools
