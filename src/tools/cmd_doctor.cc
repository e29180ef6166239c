// cmd_doctor.cc - dsopt doctor and dsopt version: what a bug report needs.
#include <cstdio>

#include "tools/client.h"
#include "tools/output.h"
#include "tools/plugin_check.h"
#include "tools/system_info.h"

namespace dsopt::tools {
namespace {

std::string VersionText(uint32_t number) {
  return Format("%u.%u.%u", number / 1000000, number / 1000 % 1000, number % 1000);
}

Json VersionJson() {
  return {{"program", VersionText(DSOPT_VERSION_NUMBER)},
          {"library", VersionText(dsopt_version_number())},
          {"abi_level", dsopt_abi_level()},
          {"build", dsopt_build_info()}};
}

Json DeviceJson(const dsopt_device_info& info) {
  return {{"id", info.id},
          {"name", info.name},
          {"kind", info.kind == DSOPT_DEVICE_CPU ? "cpu" : "cuda"},
          {"arch", info.arch},
          {"multiprocessors", info.multiprocessors},
          {"memory_total", info.memory_total},
          {"memory_free", info.memory_free},
          {"preferred_rows", info.preferred_rows}};
}

Json SystemJson(const SystemInfo& system) {
  return {{"kernel", system.kernel},
          {"cpu", system.cpu_model},
          {"cpus", system.cpus},
          {"memory_bytes", system.memory_bytes},
          {"memory_available_bytes", system.memory_available_bytes},
          {"transparent_huge_pages", system.huge_pages},
          {"reserved_huge_pages", system.reserved_huge_pages}};
}

void AppendSystem(const SystemInfo& system, std::string* out) {
  *out += Format("system   %s\n", system.kernel.c_str());
  *out += Format("cpu      %s, %u usable\n", system.cpu_model.c_str(), system.cpus);
  *out += Format("memory   %s, %s available\n", HumanBytes(system.memory_bytes).c_str(),
                 HumanBytes(system.memory_available_bytes).c_str());
  *out +=
      Format("pages    transparent huge pages: %s%s\n",
             system.huge_pages.empty() ? "unknown" : system.huge_pages.c_str(),
             system.huge_pages == "never" ? " (large weights are read slower; madvise or always helps)" : "");
}

void AppendPlugin(const DriverCheck& driver, const PluginCheck& plugin, std::string* out) {
  *out += "driver   ";
  *out += driver.module.empty() ? "no kernel module of NVIDIA" : driver.module;
  *out += driver.library.empty() ? "; " + driver.problem : "; it offers CUDA " + driver.library;
  *out += "\nplugin   " + (plugin.path.empty() ? "unknown place" : plugin.path) + ": " + plugin.state + "\n";
  if (!plugin.message.empty()) *out += "         " + plugin.message + "\n";
  if (!plugin.advice.empty()) *out += "         " + plugin.advice + "\n";
}

// Opens the device and reads a little, or all that `measure` asks for; a device that cannot be used says why.
void ExamineDevice(dsopt_runtime* runtime, const dsopt_device_info& info, bool measure, Json* device,
                   std::string* text) {
  constexpr uint64_t kTrialBytes = 1 << 20;
  double bytes_per_second = 0;
  const Status status =
      FromApi(dsopt_device_measure_read(runtime, info.id, measure ? 0 : kTrialBytes, &bytes_per_second));
  (*device)["usable"] = status.ok();
  if (!status.ok()) {
    const std::string problem(status.message()), advice = DeviceAdvice(info);
    (*device)["problem"] = problem;
    (*device)["advice"] = advice;
    *text += "         cannot be used: " + problem + "\n         " + advice + "\n";
  } else if (measure) {
    (*device)["read_gb_s"] = bytes_per_second * 1e-9;
    *text += Format("         reads memory at %.2f GB/s\n", bytes_per_second * 1e-9);
  }
}

Status Examine(const EngineOptions& engine, bool measure, bool json) {
  const SystemInfo system = ReadSystemInfo();
  ASSIGN_OR_RETURN(const RuntimePtr runtime, OpenRuntime(engine));
  const DriverCheck driver = CheckDriver();
  const PluginCheck plugin = CheckPlugin(runtime.get(), engine.plugins);
  Json devices = Json::array();
  std::string text = Format("dsopt    %s, library %s: %s\n", VersionText(DSOPT_VERSION_NUMBER).c_str(),
                            VersionText(dsopt_version_number()).c_str(), dsopt_build_info());
  AppendSystem(system, &text);
  AppendPlugin(driver, plugin, &text);
  for (uint32_t i = 0; i < dsopt_device_count(runtime.get()); ++i) {
    dsopt_device_info info = {};
    info.struct_size = sizeof info;
    RETURN_IF_ERROR(FromApi(dsopt_device_get_info(runtime.get(), i, &info)));
    text += Format("device   %s: %s, %u %s, %s, %s free\n", info.id, info.name, info.multiprocessors,
                   info.kind == DSOPT_DEVICE_CPU ? "cores" : "multiprocessors",
                   HumanBytes(info.memory_total).c_str(), HumanBytes(info.memory_free).c_str());
    Json device = DeviceJson(info);
    ExamineDevice(runtime.get(), info, measure, &device, &text);
    devices.push_back(std::move(device));
  }
  ASSIGN_OR_RETURN(const std::string report, Report(runtime.get()));
  if (json) {
    PrintJson({{"version", VersionJson()},
               {"system", SystemJson(system)},
               {"driver", {{"module", driver.module}, {"cuda", driver.library}, {"problem", driver.problem}}},
               {"plugin",
                {{"path", plugin.path},
                 {"state", plugin.state},
                 {"message", plugin.message},
                 {"advice", plugin.advice}}},
               {"devices", devices},
               {"report", report}});
    return {};
  }
  return Print(text + "\n" + report + (report.ends_with('\n') ? "" : "\n"));
}

}  // namespace

int CmdDoctor(const Arguments& arguments) {
  EngineOptions engine;
  bool measure = false, json = false;
  Options options(
      "doctor", "[options]",
      "Shows what this machine has, which devices and plugins were found, which kernels were chosen and "
      "why.");
  engine.DeclareRuntime(&options);
  options.Flag("measure", &measure, "also measure how fast each device reads its memory");
  options.Flag("json", &json, "print one JSON object: version, system, driver, plugin, devices, report");
  if (std::optional<int> code = options.Parse(arguments)) return *code;
  const Status status = Examine(engine, measure, json);
  return status.ok() ? kExitOk : Fail("doctor", status);
}

int CmdVersion(const Arguments& arguments) {
  bool json = false;
  Options options("version", "[options]", "Prints the versions of the program and of libdsopt.so.");
  options.Flag("json", &json, "print one JSON object");
  if (std::optional<int> code = options.Parse(arguments)) return *code;
  if (json) {
    PrintJson(VersionJson());
    return kExitOk;
  }
  const Status status =
      Print(Format("dsopt %s, library %s, abi level %u, %s\n", VersionText(DSOPT_VERSION_NUMBER).c_str(),
                   VersionText(dsopt_version_number()).c_str(), dsopt_abi_level(), dsopt_build_info()));
  return status.ok() ? kExitOk : Fail("version", status);
}

}  // namespace dsopt::tools
