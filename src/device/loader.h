// loader.h - finds and loads backend plugins: dlopen, version negotiation, completeness of the table. Knows one
// plugin by name, libdsopt_cuda.so, and looks for it in exactly one directory. Opens no device.
#ifndef DSOPT_DEVICE_LOADER_H_
#define DSOPT_DEVICE_LOADER_H_

#include <string>

#include "base/status.h"
#include "dsopt/backend.h"

namespace dsopt {

// Asks an entry point for its table and checks that every slot of this ABI is there. `origin` is for messages.
Result<const dsopt_backend_api*> NegotiateBackend(dsopt_backend_entry_fn entry, const dsopt_host_api& host,
                                                  const std::string& origin);

// Loads a plugin file. It stays mapped for the life of the process: threads of a driver may still run its code
// after the last device was closed. DSOPT_E_NOT_FOUND: no such file, or no driver; _IO: it cannot be read;
// _UNSUPPORTED: it cannot be loaded or is no plugin; _VERSION: it speaks another interface.
Result<const dsopt_backend_api*> LoadBackendPlugin(const std::string& path, const dsopt_host_api& host);

// The directory of the file that contains this code (libdsopt.so); empty if it cannot be found out.
std::string LibraryDirectory();

}  // namespace dsopt
#endif  // DSOPT_DEVICE_LOADER_H_
