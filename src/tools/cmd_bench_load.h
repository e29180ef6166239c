// cmd_bench_load.h - dsopt bench --load: the measurement of load_bench.h as a table or as JSON.
#ifndef DSOPT_TOOLS_CMD_BENCH_LOAD_H_
#define DSOPT_TOOLS_CMD_BENCH_LOAD_H_

#include "base/status.h"
#include "tools/load_bench.h"

namespace dsopt::tools {

Status RunBenchLoad(const LoadCase& bench, const EngineOptions& engine, bool json);

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_CMD_BENCH_LOAD_H_
