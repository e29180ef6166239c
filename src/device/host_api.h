// host_api.h - what this core offers its backends (dsopt_host_api). One per runtime; private to src/device.
#ifndef DSOPT_DEVICE_HOST_API_H_
#define DSOPT_DEVICE_HOST_API_H_

namespace dsopt {

// Keeps a backend's message for the BackendStatus that follows on this thread. Never fails; cuts long texts.
void KeepBackendMessage(const char* message);

}  // namespace dsopt
#endif  // DSOPT_DEVICE_HOST_API_H_
