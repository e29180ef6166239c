// commands.h - the subcommands of the dsopt program. Each gets the arguments after its name and returns the exit
// code of the process: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
#ifndef DSOPT_TOOLS_COMMANDS_H_
#define DSOPT_TOOLS_COMMANDS_H_

#include <string>
#include <vector>

namespace dsopt::tools {

inline constexpr int kExitOk = 0, kExitFailure = 1, kExitUsage = 2, kExitInterrupted = 130;

using Arguments = std::vector<std::string>;

int CmdBench(const Arguments& arguments);
int CmdConvert(const Arguments& arguments);
int CmdDetokenize(const Arguments& arguments);
int CmdDoctor(const Arguments& arguments);
int CmdInspect(const Arguments& arguments);
int CmdPerplexity(const Arguments& arguments);
int CmdRun(const Arguments& arguments);
int CmdTokenize(const Arguments& arguments);
int CmdValidate(const Arguments& arguments);
int CmdVersion(const Arguments& arguments);

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_COMMANDS_H_
