#include "tools/load_bench.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/clock.h"

namespace dsopt::tools {
namespace {

constexpr size_t kReadBytes = 1u << 20;

Status Errno(const std::string& path) {
  return Error(DSOPT_E_IO, "%s: %s", path.c_str(), std::strerror(errno));
}

// An open file, closed and, if it is a scratch file, removed at the end.
class File {
 public:
  static Result<File> Open(const std::string& path) {
    File file;
    file.path_ = path;
    file.fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file.fd_ < 0) return Errno(path);
    return file;
  }
  // `bytes` of noise, on the disk when it returns.
  static Result<File> Scratch(const std::string& folder, uint64_t bytes) {
    File file;
    file.path_ = folder + "/dsopt-bench-XXXXXX";
    file.fd_ = mkstemp(file.path_.data());
    if (file.fd_ < 0) return Errno(file.path_);
    file.remove_ = true;
    std::vector<uint64_t> noise(kReadBytes / sizeof(uint64_t));
    uint64_t state = 88172645463325252u;
    for (uint64_t at = 0; at < bytes;) {
      for (uint64_t& word : noise) {
        state ^= state << 13;
        state ^= state >> 7;
        word = state ^= state << 17;
      }
      const ssize_t written = write(file.fd_, noise.data(), std::min<uint64_t>(kReadBytes, bytes - at));
      if (written <= 0) return Errno(file.path_);
      at += static_cast<uint64_t>(written);
    }
    if (fdatasync(file.fd_) != 0) return Errno(file.path_);
    return file;
  }
  File(File&& other) noexcept { *this = std::move(other); }
  File& operator=(File&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(remove_, other.remove_);
    path_.swap(other.path_);
    return *this;
  }
  ~File() {
    if (fd_ >= 0) close(fd_);
    if (remove_) unlink(path_.c_str());
  }

  Result<uint64_t> Bytes() const {
    struct stat info = {};
    if (fstat(fd_, &info) != 0) return Errno(path_);
    return static_cast<uint64_t>(info.st_size);
  }

  // Asks the system to forget the file's pages. What it kept is seen in CachedShare.
  Status DropCache() const {
    if (fdatasync(fd_) != 0 && errno != EROFS && errno != EINVAL) return Errno(path_);
    if (const int error = posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED); error != 0) {
      return Error(DSOPT_E_IO, "%s: posix_fadvise: %s", path_.c_str(), std::strerror(error));
    }
    return {};
  }

  Result<double> CachedShare() const {
    ASSIGN_OR_RETURN(const uint64_t bytes, Bytes());
    if (bytes == 0) return 0.0;
    void* const map = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd_, 0);
    if (map == MAP_FAILED) return Errno(path_);
    const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    std::vector<unsigned char> pages((bytes + page - 1) / page);
    const bool known = mincore(map, bytes, pages.data()) == 0;
    munmap(map, bytes);
    if (!known) return Errno(path_);
    const auto cached = std::count_if(pages.begin(), pages.end(), [](unsigned char p) { return (p & 1) != 0; });
    return static_cast<double>(cached) / static_cast<double>(pages.size());
  }

  // Seconds of one pass.
  Result<double> ReadAll() const {
    std::vector<char> buffer(kReadBytes);
    const uint64_t start_ns = NowNs();
    for (uint64_t at = 0;;) {
      const ssize_t count = pread(fd_, buffer.data(), buffer.size(), static_cast<off_t>(at));
      if (count < 0) return Errno(path_);
      if (count == 0) break;
      at += static_cast<uint64_t>(count);
    }
    return static_cast<double>(NowNs() - start_ns) * 1e-9;
  }

 private:
  File() = default;
  int fd_ = -1;
  bool remove_ = false;
  std::string path_;
};

double SecondsSince(uint64_t start_ns) { return static_cast<double>(NowNs() - start_ns) * 1e-9; }

// One load and one token.
Result<dsopt_model_info> LoadOnce(dsopt_runtime* runtime, const std::string& path, const EngineOptions& engine,
                                  LoadTimes* times) {
  const uint64_t start_ns = NowNs();
  ASSIGN_OR_RETURN(const ModelPtr model, OpenModel(runtime, path, engine));
  times->load_seconds = SecondsSince(start_ns);
  ASSIGN_OR_RETURN(const dsopt_model_info info, ModelInfo(model.get()));
  ASSIGN_OR_RETURN(const SessionPtr session,
                   OpenSession(model.get(), engine, 1, std::min(64u, info.context_length)));
  ASSIGN_OR_RETURN(const StreamPtr stream, OpenStream(session.get()));
  const dsopt_token prompt = std::max(info.bos, 0);
  RETURN_IF_ERROR(FromApi(dsopt_stream_append_tokens(stream.get(), &prompt, 1)));
  dsopt_generate_options generate = {};
  generate.struct_size = sizeof generate;
  generate.flags = DSOPT_GENERATE_IGNORE_EOS;
  generate.max_tokens = 1;
  RETURN_IF_ERROR(FromApi(dsopt_stream_generate(stream.get(), &generate)));
  RETURN_IF_ERROR(Finish(session.get(), stream.get()));
  times->first_token_seconds = SecondsSince(start_ns);
  return info;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// The medians of several runs.
LoadTimes Medians(const std::vector<LoadTimes>& runs) {
  const auto of = [&runs](double LoadTimes::*member) {
    std::vector<double> values;
    for (const LoadTimes& run : runs) values.push_back(run.*member);
    return Median(std::move(values));
  };
  return {of(&LoadTimes::cached_share), of(&LoadTimes::load_seconds), of(&LoadTimes::first_token_seconds),
          of(&LoadTimes::plain_seconds)};
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

}  // namespace

Result<LoadResult> BenchLoad(const LoadCase& bench, const EngineOptions& engine) {
  ASSIGN_OR_RETURN(const File file, File::Open(bench.file));
  ASSIGN_OR_RETURN(const RuntimePtr runtime, OpenRuntime(engine));
  LoadResult result;
  LoadTimes first;  // finds faults and sizes, and is not counted
  ASSIGN_OR_RETURN(const dsopt_model_info info, LoadOnce(runtime.get(), bench.file, engine, &first));
  result.device = info.device;
  result.weight_bytes = info.weight_bytes;
  result.plain_bytes = std::min(info.weight_bytes, kMostPlainBytes);
  ASSIGN_OR_RETURN(result.file_bytes, file.Bytes());
  ASSIGN_OR_RETURN(const File plain,
                   File::Scratch(bench.scratch_folder.empty() ? FolderOf(bench.file) : bench.scratch_folder,
                                 result.plain_bytes));
  std::vector<LoadTimes> cold(std::max(bench.repeats, 1u)), warm(cold.size());
  for (size_t i = 0; i < cold.size(); ++i) {
    RETURN_IF_ERROR(file.DropCache());
    RETURN_IF_ERROR(plain.DropCache());
    for (LoadTimes* times : {&cold[i], &warm[i]}) {
      ASSIGN_OR_RETURN(times->cached_share, file.CachedShare());
      RETURN_IF_ERROR(LoadOnce(runtime.get(), bench.file, engine, times).status());
      ASSIGN_OR_RETURN(times->plain_seconds, plain.ReadAll());
    }
  }
  result.cold = Medians(cold);
  result.warm = Medians(warm);
  return result;
}

}  // namespace dsopt::tools
