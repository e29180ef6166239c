// robot_loop - a simulated robot in a house, controlled at 100 Hz, that understands commands in natural
// language: options, real-time priority, the report.
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iostream>

#include "loop.h"

namespace {

constexpr const char* kScript[] = {"bring me the red cup from the kitchen, then come back",
                                   "go to the garage and look for the hammer",
                                   "put the blue book on the shelf in the living room",
                                   "turn off all the lights and lock the front door",
                                   "Give grandma the yellow blanket.",
                                   "fly over to the neighbour's house",
                                   "open the fridge, take out the milk and close it again",
                                   "tell Anna that dinner will be ready in ten minutes",
                                   "pick up the ball and throw it in the trash",
                                   "is there anyone in the bathroom?",
                                   "jump three times and then dance",
                                   "go home"};

constexpr const char* kUsage = R"(usage: robot_loop [options]

A simulated robot, controlled at 100 Hz, turns commands into action plans with what is left of each 10 ms tick.

  --command TEXT     a command; repeatable. Without any, a built-in script of 12
  --commands FILE    commands from a file, one a line
  --ticks N          ticks with inference, and as many without (default 3000); 0: until the commands are carried out
  --no-baseline      inference in every tick: no ticks without
  --fast             do not wait for the clock (tests): what happens is the same, times mean nothing
  --no-background    only the commands are translated; else a second stream keeps each poll busy
  --no-realtime      do not ask for SCHED_DEADLINE or SCHED_FIFO, and locked memory
  --threads N        compute threads of the library (default 1: all work on the loop's thread)
  --cpu-variant V    at most these CPU instructions: scalar avx2 avx2_vnni avx512
                      avx512_vnni avx512_bf16
  --model FILE       default: examples/robot_model/robot.dsopt
  --svg PREFIX       writes PREFIX_world.svg and PREFIX_ticks.svg; default: beside the program; "": none
)";

struct Options {
  MindOptions mind;
  LoopOptions loop;
  std::string svg;
};

[[noreturn]] void Usage(const std::string& what) {
  std::cerr << what << "\n\n" << kUsage;
  std::exit(2);
}

long Number(const std::string& option, const std::string& text) {
  char* end = nullptr;
  errno = 0;
  const long value = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || errno != 0 || value < 0 || value > 10'000'000)
    Usage(option + ": '" + text + "', 0 to 10000000 expected");
  return value;
}

void ReadCommands(const std::string& path, std::vector<std::string>* commands) {
  std::ifstream file(path);
  if (!file) Usage("--commands: cannot read '" + path + "'");
  for (std::string line; std::getline(file, line);)
    if (!line.empty()) commands->push_back(line);
}

Options Parse(int argc, char** argv) {
  Options options;
  options.svg = argv[0];
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 >= argc) Usage(name + ": a value is expected");
      return argv[++i];
    };
    if (name == "--command")
      options.loop.commands.push_back(value());
    else if (name == "--commands")
      ReadCommands(value(), &options.loop.commands);
    else if (name == "--ticks")
      options.loop.ticks = Number(name, value());
    else if (name == "--no-baseline")
      options.loop.baseline = false;
    else if (name == "--fast")
      options.loop.fast = true;
    else if (name == "--no-background")
      options.mind.busy = false;
    else if (name == "--no-realtime")
      options.loop.realtime = false;
    else if (name == "--threads")
      options.mind.threads = static_cast<uint32_t>(Number(name, value()));
    else if (name == "--cpu-variant")
      options.mind.cpu_variant = value();
    else if (name == "--model")
      options.mind.model = value();
    else if (name == "--svg")
      options.svg = value();
    else
      Usage(name == "--help" ? "robot_loop" : "unknown option '" + name + "'");
  }
  if (options.loop.commands.empty()) options.loop.commands.assign(std::begin(kScript), std::end(kScript));
  return options;
}

void PrintEnd(const ControlLoop& loop, const Mind& mind, const LoopOptions& options) {
  std::string held;
  for (const Thing& thing : loop.world().things)
    if (thing.carried)
      held += (held.empty() ? "" : ", ") + thing.color + (thing.color.empty() ? "" : " ") + thing.name;
  const Room* room = loop.world().RoomAt(loop.robot().at());
  size_t polls = 0;
  for (const Tick& tick : loop.log().ticks()) polls += tick.polled;
  std::printf("\nrobot: in the %s, holds %s\n", room == nullptr ? "wall" : room->name.c_str(),
              held.empty() ? "nothing" : held.c_str());
  for (const Thing& thing : loop.world().things)
    if (Distance(thing.at, thing.start) > 0.3 && !thing.carried)
      std::printf("moved: %s %s, now with %s\n", thing.color.c_str(), thing.name.c_str(), thing.on.c_str());
  std::printf("drove %.1f m in %zu ticks, %d collisions\n", loop.robot().driven(), loop.log().ticks().size(),
              loop.robot().collisions());
  std::printf("commands: %zu of %zu finished; actions: %d done, %d failed\n", loop.commands_done(),
              options.commands.size(), loop.executor().done(), loop.executor().failed());
  std::printf("inference: %zu polls, %llu tokens, %llu answers in the background\n", polls,
              static_cast<unsigned long long>(mind.tokens()),
              static_cast<unsigned long long>(mind.background_answers()));
}

bool WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file)
    std::cerr << "cannot write " << path << "\n";
  else
    std::cout << "wrote " << path << "\n";
  return !file.fail();
}

int Run(const Options& options) {
  Mind mind(options.mind);
  double load[2] = {0, 0};
  getloadavg(&load[0], 1);
  std::printf("model %s on %s, %u compute thread(s)\n", options.mind.model.c_str(), mind.device().c_str(),
              options.mind.threads);
  auto journal = std::make_unique<Journal>();  // its thread keeps the normal priority
  ControlLoop loop(options.loop, &mind, journal.get());
  loop.Run();
  journal.reset();  // everything is printed
  getloadavg(&load[1], 1);
  PrintEnd(loop, mind, options.loop);
  std::printf("load of the machine (1 minute): %.1f at the start, %.1f at the end\n", load[0], load[1]);
  if (!options.loop.fast) {
    int64_t longest = 0, total = 0;
    for (const Stall& stall : loop.stalls())
      longest = std::max(longest, stall.to - stall.from), total += stall.to - stall.from;
    std::printf("witness: away %zu times for more than 1 ms, the longest %.1f ms, together %.1f ms\n",
                loop.stalls().size(), static_cast<double>(longest) / 1e6, static_cast<double>(total) / 1e6);
  }
  loop.log().Print(stdout);
  if (options.svg.empty()) return 0;
  std::fflush(stdout);
  const bool written = WriteFile(options.svg + "_world.svg", DrawWorld(loop.world(), loop.robot().at(),
                                                                       loop.robot().heading(), loop.trips())) &&
                       WriteFile(options.svg + "_ticks.svg", DrawHistogram(loop.log()));
  return written ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Run(Parse(argc, argv));
  } catch (const std::exception& error) {
    std::cerr << "robot_loop: " << error.what() << "\n";
    return 1;
  }
}
