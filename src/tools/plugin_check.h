// plugin_check.h - can the CUDA plugin be used here, and if not, what is to be done? For dsopt doctor.
#ifndef DSOPT_TOOLS_PLUGIN_CHECK_H_
#define DSOPT_TOOLS_PLUGIN_CHECK_H_

#include <string>

#include "dsopt/dsopt.h"

namespace dsopt::tools {

struct PluginCheck {
  std::string path;     // of the file that the library looks for; empty: it could not be found out
  std::string state;    // "loaded", "absent", "unreadable", "no_driver", "wrong_version", "broken"
  std::string message;  // the library's; empty when loaded or absent
  std::string advice;   // what to do; empty when loaded
};

// Loads the plugin of `directory` (empty: that of libdsopt.so) once more, to hear why it is not used.
PluginCheck CheckPlugin(dsopt_runtime* runtime, const std::string& directory);

struct DriverCheck {
  std::string module;   // version of NVIDIA's kernel module; empty: it is not loaded
  std::string library;  // CUDA version that libcuda.so.1 offers; empty: it cannot be loaded
  std::string problem;  // why libcuda.so.1 cannot be loaded
};

DriverCheck CheckDriver();

// Of a device that is present and does not open.
std::string DeviceAdvice(const dsopt_device_info& info);

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_PLUGIN_CHECK_H_
