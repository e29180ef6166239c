// validate_report.h - a comparison as a table, as JSON and as a self-contained HTML page with plots.
#ifndef DSOPT_TOOLS_VALIDATE_REPORT_H_
#define DSOPT_TOOLS_VALIDATE_REPORT_H_

#include <string>

#include "tools/output.h"
#include "tools/validate.h"

namespace dsopt::tools {

std::string ComparisonTable(const Comparison& comparison);
Json ComparisonJson(const Comparison& comparison, uint32_t window);
// Inline SVG and CSS; refers to nothing outside of itself.
std::string ComparisonHtml(const Comparison& comparison, uint32_t window);

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_VALIDATE_REPORT_H_
