// main.cc - the dsopt program: finds the subcommand. Everything else is in cmd_<name>.cc.
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>

#include "tools/commands.h"

namespace {

using dsopt::tools::Arguments;

struct Command {
  const char* name;
  int (*run)(const Arguments& arguments);
  const char* summary;
};

constexpr Command kCommands[] = {
    {"run", dsopt::tools::CmdRun, "generate text"},
    {"convert", dsopt::tools::CmdConvert, "make a .dsopt file of a checkpoint"},
    {"inspect", dsopt::tools::CmdInspect, "show what a .dsopt file holds"},
    {"tokenize", dsopt::tools::CmdTokenize, "text to token ids"},
    {"detokenize", dsopt::tools::CmdDetokenize, "token ids to text"},
    {"perplexity", dsopt::tools::CmdPerplexity, "how well a model predicts a text"},
    {"validate", dsopt::tools::CmdValidate, "how far a model is from a reference"},
    {"bench", dsopt::tools::CmdBench, "speed of a model shape on random weights"},
    {"doctor", dsopt::tools::CmdDoctor, "what this machine has and which kernels are used"},
    {"version", dsopt::tools::CmdVersion, "versions of program and library"},
};

void PrintHelp(FILE* to) {
  std::fputs("usage: dsopt COMMAND [options]\n\nRuns language models with libdsopt.\n\ncommands\n", to);
  for (const Command& command : kCommands) std::fprintf(to, "  %-12s %s\n", command.name, command.summary);
  std::fputs("\n'dsopt COMMAND --help' describes a command. Exit codes: 0 done, 1 failed, 2 wrong usage,\n"
             "130 interrupted. Errors are one line on stderr; with --json results are one object per line.\n", to);
}

int Dispatch(int argc, char** argv) {
  if (argc < 2) {
    std::fputs("dsopt: a command is missing (see dsopt --help)\n", stderr);
    return dsopt::tools::kExitUsage;
  }
  const std::string_view name = argv[1];
  const Arguments arguments(argv + 2, argv + argc);
  if (name == "--help" || name == "-h" || name == "help") {
    PrintHelp(stdout);
    return dsopt::tools::kExitOk;
  }
  if (name == "--version") return dsopt::tools::CmdVersion(arguments);
  for (const Command& command : kCommands) {
    if (name == command.name) return command.run(arguments);
  }
  std::fprintf(stderr, "dsopt: unknown command '%s' (see dsopt --help)\n", argv[1]);
  return dsopt::tools::kExitUsage;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed stdout is an error to report, not a silent death
  try {
    return Dispatch(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "dsopt: %s\n", error.what());
    return dsopt::tools::kExitFailure;
  }
}
