#include "device/plugin_file.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/checked.h"

namespace dsopt {
namespace {

#if defined(__x86_64__)
constexpr unsigned kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr unsigned kMachine = EM_AARCH64;
#else
#error "name the ELF machine of this architecture"
#endif
constexpr unsigned kClass = sizeof(void*) == 8 ? ELFCLASS64 : ELFCLASS32;

// Closes at the end of the scope.
struct File {
  int descriptor;
  ~File() {
    if (descriptor >= 0) close(descriptor);
  }
};

Status ReadAt(const File& file, uint64_t offset, void* out, size_t bytes, const char* path) {
  const ssize_t got = pread(file.descriptor, out, bytes, static_cast<off_t>(offset));
  if (got == static_cast<ssize_t>(bytes)) return Status();
  return got < 0 ? Error(DSOPT_E_IO, "backend '%s': cannot be read: %s", path, std::strerror(errno))
                 : Error(DSOPT_E_UNSUPPORTED, "backend '%s': it is no shared library: it ends in its headers",
                         path);
}

Status CheckHeader(const ElfW(Ehdr) & header, const char* path) {
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_type != ET_DYN ||
      header.e_phentsize != sizeof(ElfW(Phdr))) {
    return Error(DSOPT_E_UNSUPPORTED, "backend '%s': it is no shared library", path);
  }
  if (header.e_ident[EI_CLASS] != kClass || header.e_machine != kMachine) {
    return Error(DSOPT_E_UNSUPPORTED, "backend '%s': it is for ELF machine %u, this process is %u", path,
                 header.e_machine, kMachine);
  }
  return Status();
}

}  // namespace

Status CheckPluginFile(const std::string& path) {
  const File file = {open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)};
  if (file.descriptor < 0) {
    const int error = errno;
    return Error(error == ENOENT ? DSOPT_E_NOT_FOUND : DSOPT_E_IO, "backend '%s': cannot be read: %s",
                 path.c_str(), std::strerror(error));
  }
  struct stat info = {};
  if (fstat(file.descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
    return Error(DSOPT_E_IO, "backend '%s': cannot be read: it is no regular file", path.c_str());
  }
  const uint64_t size = static_cast<uint64_t>(info.st_size);
  ElfW(Ehdr) header;
  RETURN_IF_ERROR(ReadAt(file, 0, &header, sizeof header, path.c_str()));
  RETURN_IF_ERROR(CheckHeader(header, path.c_str()));
  const uint64_t table_bytes = uint64_t{header.e_phnum} * sizeof(ElfW(Phdr));  // two 16-bit numbers
  if (!RangeFits(header.e_phoff, table_bytes, size)) {
    return Error(DSOPT_E_UNSUPPORTED, "backend '%s': it is no shared library: it ends in its headers",
                 path.c_str());
  }
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    ElfW(Phdr) segment;
    RETURN_IF_ERROR(ReadAt(file, header.e_phoff + i * sizeof segment, &segment, sizeof segment, path.c_str()));
    if (segment.p_type == PT_LOAD && !RangeFits(segment.p_offset, segment.p_filesz, size)) {
      return Error(DSOPT_E_UNSUPPORTED, "backend '%s': it was cut short: %llu bytes, at least %llu expected",
                   path.c_str(), static_cast<unsigned long long>(size),
                   static_cast<unsigned long long>(segment.p_offset + segment.p_filesz));
    }
  }
  return Status();
}

}  // namespace dsopt
