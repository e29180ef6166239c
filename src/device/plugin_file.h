// plugin_file.h - is this file one that dlopen can be trusted with? It maps what the headers say: a file that
// was cut short would end the process with SIGBUS. Knows ELF, not what a plugin exports.
#ifndef DSOPT_DEVICE_PLUGIN_FILE_H_
#define DSOPT_DEVICE_PLUGIN_FILE_H_

#include <string>

#include "base/status.h"

namespace dsopt {

// DSOPT_E_NOT_FOUND: there is no such file; _IO: it cannot be read; _UNSUPPORTED: it is no shared library of
// this kind of machine, or shorter than its headers say.
Status CheckPluginFile(const std::string& path);

}  // namespace dsopt
#endif  // DSOPT_DEVICE_PLUGIN_FILE_H_
