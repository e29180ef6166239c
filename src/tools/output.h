// output.h - what the program prints: errors as one line on stderr, results on stdout, JSON as one object a line.
#ifndef DSOPT_TOOLS_OUTPUT_H_
#define DSOPT_TOOLS_OUTPUT_H_

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/status.h"

namespace dsopt::tools {

using Json = nlohmann::ordered_json;

// One line: "dsopt run: DSOPT_E_IO: message". Returns kExitFailure.
int Fail(std::string_view command, const Status& status);
// One object, one line, flushed. Invalid UTF-8 in strings becomes U+FFFD; numbers that are not finite become null.
void PrintJson(const Json& object);
// Bytes to stdout, flushed. Fails when stdout was closed or is full.
Status Print(std::string_view bytes);
// stderr is a terminal: progress lines make sense.
bool ShowProgress();
// "1.5 GiB"
std::string HumanBytes(uint64_t bytes);

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_OUTPUT_H_
