#include "format/source.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>

#include "base/checked.h"

namespace dsopt {
namespace {

Status OutOfRange(const Source& source, uint64_t offset, uint64_t length) {
  return Error(DSOPT_E_CORRUPT, "%s: bytes %llu + %llu lie outside of its %llu bytes", source.name().c_str(),
               static_cast<unsigned long long>(offset), static_cast<unsigned long long>(length),
               static_cast<unsigned long long>(source.size()));
}

class FileSource final : public Source {
 public:
  explicit FileSource(std::string path) : path_(std::move(path)) {}
  ~FileSource() override {
    if (map_ != nullptr) munmap(map_, size_);
    if (file_ >= 0) close(file_);
  }
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;

  Status Open(bool map) {
    // A path that is a pipe is refused below, opening it must not wait for its writer.
    file_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file_ < 0) {
      return Error(errno == ENOENT ? DSOPT_E_NOT_FOUND : DSOPT_E_IO, "%s: cannot open: %s", path_.c_str(),
                   std::strerror(errno));
    }
    struct stat info;
    if (fstat(file_, &info) != 0 || !S_ISREG(info.st_mode)) {
      return Error(DSOPT_E_IO, "%s: not a regular file", path_.c_str());
    }
    size_ = static_cast<uint64_t>(info.st_size);
    return map && size_ > 0 ? Map() : Status();
  }
  uint64_t size() const override { return size_; }
  const std::string& name() const override { return path_; }

  Status ReadAt(uint64_t offset, std::span<uint8_t> dst) override {
    if (!RangeFits(offset, dst.size(), size_)) return OutOfRange(*this, offset, dst.size());
    size_t done = 0;
    while (done < dst.size()) {
      const ssize_t got = pread(file_, dst.data() + done, dst.size() - done, static_cast<off_t>(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        return Error(DSOPT_E_IO, "%s: reading at %llu failed: %s", path_.c_str(),
                     static_cast<unsigned long long>(offset + done), std::strerror(errno));
      }
      if (got == 0) {
        return Error(DSOPT_E_IO, "%s: ends at %llu, it had %llu bytes when it was opened", path_.c_str(),
                     static_cast<unsigned long long>(offset + done), static_cast<unsigned long long>(size_));
      }
      done += static_cast<size_t>(got);
    }
    return Status();
  }
  std::span<const uint8_t> View(uint64_t offset, uint64_t length) override {
    if (map_ == nullptr || !RangeFits(offset, length, size_)) return {};
    return {static_cast<const uint8_t*>(map_) + offset, static_cast<size_t>(length)};
  }

 private:
  Status Map() {
    void* map = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file_, 0);
    if (map == MAP_FAILED)
      return Error(DSOPT_E_IO, "%s: mapping failed: %s", path_.c_str(), std::strerror(errno));
    map_ = map;
    return Status();
  }

  std::string path_;
  int file_ = -1;
  uint64_t size_ = 0;
  void* map_ = nullptr;
};

class MemorySource final : public Source {
 public:
  explicit MemorySource(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_.size(); }
  const std::string& name() const override { return name_; }
  Status ReadAt(uint64_t offset, std::span<uint8_t> dst) override {
    if (!RangeFits(offset, dst.size(), bytes_.size())) return OutOfRange(*this, offset, dst.size());
    if (!dst.empty()) std::memcpy(dst.data(), bytes_.data() + offset, dst.size());
    return Status();
  }
  std::span<const uint8_t> View(uint64_t offset, uint64_t length) override {
    if (!RangeFits(offset, length, bytes_.size())) return {};
    return bytes_.subspan(static_cast<size_t>(offset), static_cast<size_t>(length));
  }

 private:
  std::span<const uint8_t> bytes_;
  std::string name_ = "memory";
};

class IoSource final : public Source {
 public:
  explicit IoSource(const dsopt_io& io) : io_(io) {}
  ~IoSource() override {
    if (io_.close != nullptr) io_.close(io_.user);
  }
  IoSource(const IoSource&) = delete;
  IoSource& operator=(const IoSource&) = delete;
  uint64_t size() const override { return io_.size; }
  const std::string& name() const override { return name_; }
  Status ReadAt(uint64_t offset, std::span<uint8_t> dst) override {
    if (!RangeFits(offset, dst.size(), io_.size)) return OutOfRange(*this, offset, dst.size());
    if (dst.empty()) return Status();
    const dsopt_status code = io_.read_at(io_.user, offset, dst.data(), dst.size());
    if (code != DSOPT_OK) {
      return Error(DSOPT_E_CALLBACK, "io: read_at(%llu, %zu bytes) returned %d",
                   static_cast<unsigned long long>(offset), dst.size(), static_cast<int>(code));
    }
    return Status();
  }
  std::span<const uint8_t> View(uint64_t, uint64_t) override { return {}; }

 private:
  dsopt_io io_;
  std::string name_ = "io";
};

}  // namespace

Result<std::unique_ptr<Source>> OpenFileSource(const std::string& path, bool map) {
  auto source = std::make_unique<FileSource>(path);
  RETURN_IF_ERROR(source->Open(map));
  return std::unique_ptr<Source>(std::move(source));
}

std::unique_ptr<Source> MakeMemorySource(std::span<const uint8_t> bytes) {
  return std::make_unique<MemorySource>(bytes);
}

Result<std::unique_ptr<Source>> MakeIoSource(const dsopt_io& io) {
  std::unique_ptr<Source> source(new (std::nothrow) IoSource(io));
  if (source == nullptr) {
    if (io.close != nullptr) io.close(io.user);  // promised, whatever happens
    return Error(DSOPT_E_OUT_OF_MEMORY, "io: out of memory");
  }
  if (io.read_at == nullptr) return Error(DSOPT_E_INVALID_ARGUMENT, "io: read_at is NULL");
  return source;
}

}  // namespace dsopt
