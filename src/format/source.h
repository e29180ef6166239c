// source.h - where the bytes of a model file come from: a file, a mapping, memory, or the host's callbacks.
#ifndef DSOPT_FORMAT_SOURCE_H_
#define DSOPT_FORMAT_SOURCE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"
#include "dsopt/dsopt.h"

namespace dsopt {

// Random-access bytes. [thread-compatible]: one ReadAt at a time.
class Source {
 public:
  virtual ~Source() = default;
  virtual uint64_t size() const = 0;
  // Fills dst completely or fails. The range must lie inside size() (DSOPT_E_CORRUPT otherwise).
  virtual Status ReadAt(uint64_t offset, std::span<uint8_t> dst) = 0;
  // The bytes in place, or an empty span when this source cannot give them without a copy.
  virtual std::span<const uint8_t> View(uint64_t offset, uint64_t length) = 0;
  // For messages: a path, "memory", "io".
  virtual const std::string& name() const = 0;
};

Result<std::unique_ptr<Source>> OpenFileSource(const std::string& path, bool map);
std::unique_ptr<Source> MakeMemorySource(std::span<const uint8_t> bytes);
// Copies io; calls io.close (if any) when destroyed. A read_at that fails gives DSOPT_E_CALLBACK with its
// status.
Result<std::unique_ptr<Source>> MakeIoSource(const dsopt_io& io);

}  // namespace dsopt
#endif  // DSOPT_FORMAT_SOURCE_H_
