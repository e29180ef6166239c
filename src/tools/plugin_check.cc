#include "tools/plugin_check.h"

#include <dlfcn.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <memory>

#include "base/status.h"

namespace dsopt::tools {
namespace {

constexpr char kPluginFile[] = "libdsopt_cuda.so";
constexpr char kDriverLibrary[] = "libcuda.so.1";
constexpr uint32_t kOldestArch = 80;

// Where the loaded libdsopt.so lies; empty if that cannot be found out.
std::string LibraryDirectory() {
  const void* function = dlsym(RTLD_DEFAULT, "dsopt_runtime_create");
  Dl_info info;
  if (function == nullptr || dladdr(function, &info) == 0 || info.dli_fname == nullptr) return {};
  const std::unique_ptr<char, decltype(&std::free)> real(realpath(info.dli_fname, nullptr), &std::free);
  if (real == nullptr) return {};
  const std::string path(real.get());
  return path.substr(0, path.rfind('/'));
}

bool Contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

// message: what the loader of shared libraries said.
std::string LoadAdvice(const std::string& message) {
  if (Contains(message, "cannot open shared object file")) {
    return "Another library that the plugin needs is missing: install the one that is named.";
  }
  if (Contains(message, "undefined symbol")) {
    return "The plugin and a library that it uses are of different builds: install both anew.";
  }
  if (Contains(message, "not found (required by")) {
    return "The plugin was built for a newer system than this one: take a build for this system.";
  }
  return "The file is damaged or no plugin of dsopt: install it again.";
}

std::string DriverAdvice() {
  const DriverCheck driver = CheckDriver();
  if (driver.library.empty()) {
    return "Install NVIDIA's driver; CUDA itself is not needed. Until then models run on the CPU.";
  }
  return "The driver's library is there and gives the plugin no device: see what nvidia-smi says, whether this "
         "process may open /dev/nvidia*, and whether the driver is as new as the plugin's CUDA version.";
}

std::string FirstLine(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

PluginCheck CheckPlugin(dsopt_runtime* runtime, const std::string& directory) {
  PluginCheck check;
  const std::string folder = directory.empty() ? LibraryDirectory() : directory;
  if (folder.empty()) {
    check.state = "absent";
    check.advice = "Where libdsopt.so lies could not be found out: name the plugin's directory with --plugins.";
    return check;
  }
  check.path = folder + "/" + kPluginFile;
  struct stat info;
  if (stat(check.path.c_str(), &info) != 0 && (errno == ENOENT || errno == ENOTDIR)) {
    check.state = "absent";
    check.advice = "For NVIDIA GPUs put libdsopt_cuda.so (package libdsopt-cuda) there.";
    return check;
  }
  const dsopt_status status = dsopt_runtime_load_backend(runtime, check.path.c_str());
  if (status >= 0) {
    check.state = "loaded";
    return check;
  }
  check.message = dsopt_last_error();
  if (status == DSOPT_E_IO) {
    check.state = "unreadable";
    check.advice = "Make the file readable for the user of this process.";
  } else if (status == DSOPT_E_VERSION) {
    check.state = "wrong_version";
    check.advice = "Install the plugin and libdsopt.so of one release.";
  } else if (status == DSOPT_E_NOT_FOUND) {
    check.state = "no_driver";
    check.advice = DriverAdvice();
  } else {
    check.state = "broken";
    check.advice = LoadAdvice(check.message);
  }
  return check;
}

DriverCheck CheckDriver() {
  DriverCheck check;
  check.module = FirstLine("/proc/driver/nvidia/version");
  void* library = dlopen(kDriverLibrary, RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    check.problem = reason != nullptr ? reason : "unknown error";
    return check;
  }
  const auto version = reinterpret_cast<int (*)(int*)>(dlsym(library, "cuDriverGetVersion"));
  int number = 0;
  if (version != nullptr && version(&number) == 0) {
    check.library = Format("%d.%d", number / 1000, number % 1000 / 10);
  } else {
    check.problem = Format("%s: cuDriverGetVersion fails", kDriverLibrary);
  }
  dlclose(library);
  return check;
}

std::string DeviceAdvice(const dsopt_device_info& info) {
  if (info.kind == DSOPT_DEVICE_CUDA && info.arch < kOldestArch) {
    return Format(
        "This GPU is too old: it has compute capability %u.%u, the plugin needs 8.0 or newer. Use the CPU.",
        info.arch / 10, info.arch % 10);
  }
  return "The device is present and does not open: see whether other programs hold it or its memory "
         "(nvidia-smi).";
}

}  // namespace dsopt::tools
