#include "format/writer.h"

#include <fcntl.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <utility>

#include "format/chunk_codec.h"
#include "format/layout.h"
#include "format/metadata.h"
#include "format/verify.h"

namespace dsopt {
namespace {

constexpr int kMetadataLevel = 9;  // small and read once

// Where the bytes go: PATH.part, or memory when there is no path.
class Sink {
 public:
  explicit Sink(std::string path) : path_(std::move(path)), part_(path_.empty() ? "" : path_ + ".part") {}
  ~Sink() {
    if (file_ >= 0) close(file_);
    if (created_) unlink(part_.c_str());
  }
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;

  Status Open() {
    if (path_.empty()) return {};
    file_ = open(part_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file_ < 0) return Failed("cannot create");
    created_ = true;
    return {};
  }
  Status WriteAt(uint64_t offset, std::span<const uint8_t> bytes) {
    if (path_.empty()) {
      if (memory_.size() < offset + bytes.size()) memory_.resize(offset + bytes.size());
      std::copy(bytes.begin(), bytes.end(), memory_.begin() + static_cast<ptrdiff_t>(offset));
      return {};
    }
    size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t wrote =
          pwrite(file_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0) return Failed("writing failed");
      done += static_cast<size_t>(wrote);
    }
    return {};
  }
  // Makes the file bytes long, durable and visible under its own name.
  Status Commit(uint64_t bytes) {
    if (path_.empty()) {
      memory_.resize(bytes);
      return {};
    }
    if (ftruncate(file_, static_cast<off_t>(bytes)) != 0 || fsync(file_) != 0) return Failed("writing failed");
    const int file = std::exchange(file_, -1);
    if (close(file) != 0) return Failed("closing failed");
    if (rename(part_.c_str(), path_.c_str()) != 0) return Failed("cannot rename to its final name");
    created_ = false;
    return SyncFolder();
  }
  std::vector<uint8_t> TakeBytes() { return std::move(memory_); }

 private:
  Status Failed(const char* what) const {
    return Error(DSOPT_E_IO, "%s: %s: %s", part_.c_str(), what, std::strerror(errno));
  }
  // The new name survives a power failure, too.
  Status SyncFolder() const {
    const size_t slash = path_.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
    const int file = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) return {};  // a folder that may be written but not read
    const int result = fsync(file);
    const int reason = errno;
    close(file);
    if (result == 0 || reason == EINVAL) return {};  // some file systems cannot
    return Error(DSOPT_E_IO, "%s: syncing its folder failed: %s", path_.c_str(), std::strerror(reason));
  }
  std::string path_, part_;
  int file_ = -1;
  bool created_ = false;
  std::vector<uint8_t> memory_;
};

}  // namespace

struct Writer::Impl {
  Impl(const std::string& path, ModelSpec model, const WriterOptions& writer_options)
      : spec(std::move(model)), options(writer_options), sink(path), encoder(writer_options.zstd_level) {}

  Status Plan();
  Status NumberChunks();
  Status Take(std::span<const uint8_t> bytes);
  Status WriteChunk(std::span<const uint8_t> raw);
  Status WriteMetadata();
  // The tensor whose bytes come next; null at the end.
  const TensorSpec* Current();
  uint64_t align() const { return options.compress ? kChunkAlign : kMappedChunkAlign; }

  ModelSpec spec;                // tensors sorted by name
  std::vector<size_t> declared;  // the same tensors in the order of their bytes
  WriterOptions options;
  Sink sink;
  ChunkEncoder encoder;
  std::vector<uint8_t> pending;  // the beginning of the current chunk
  size_t next = 0;               // in declared
  uint64_t tensor_done = 0;      // bytes of the current tensor that have come
  size_t chunk = 0;
  uint64_t meta_reserved = 0;  // bytes kept free for the metadata block
  uint64_t end = 0;            // of the file so far
  uint64_t stored = 0;
  Status failure;  // of an earlier call: the file is lost
  bool finished = false;
};

// Sets raw_bytes, first_chunk and chunk_count of all tensors and raw_size of all chunks.
Status Writer::Impl::NumberChunks() {
  uint64_t total = 0;
  for (size_t index : declared) {
    TensorSpec& t = spec.tensors[index];
    ASSIGN_OR_RETURN(t.raw_bytes, TensorBytes(t));
    const uint64_t count = t.synthetic ? 0 : (t.raw_bytes + options.chunk_bytes - 1) / options.chunk_bytes;
    if (count > kMaxChunks - total) {
      return Error(DSOPT_E_UNSUPPORTED, "more than %u chunks of %u bytes, expected larger chunks", kMaxChunks,
                   options.chunk_bytes);
    }
    t.first_chunk = t.synthetic ? 0 : static_cast<uint32_t>(total);
    t.chunk_count = static_cast<uint32_t>(count);
    total += count;
  }
  spec.chunks.assign(total, ChunkSpec());
  for (const TensorSpec& t : spec.tensors) {
    for (uint64_t i = 0; i < t.chunk_count; ++i) {
      const uint64_t left = t.raw_bytes - i * options.chunk_bytes;
      spec.chunks[t.first_chunk + i].raw_size =
          static_cast<uint32_t>(std::min<uint64_t>(left, options.chunk_bytes));
    }
  }
  return {};
}

// Checks all that a reader will check, numbers the chunks and reserves room for the metadata.
Status Writer::Impl::Plan() {
  if (options.chunk_bytes < kChunkAlign || options.chunk_bytes > kMaxChunkBytes ||
      options.chunk_bytes % kChunkAlign != 0) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "chunks of %u bytes, expected a multiple of 64 up to %u",
                 options.chunk_bytes, kMaxChunkBytes);
  }
  spec.chunk_bytes = options.chunk_bytes;
  std::vector<size_t> sorted(spec.tensors.size());
  std::iota(sorted.begin(), sorted.end(), size_t{0});
  std::sort(sorted.begin(), sorted.end(),
            [this](size_t a, size_t b) { return spec.tensors[a].name < spec.tensors[b].name; });
  std::vector<TensorSpec> tensors;
  declared.resize(sorted.size());
  for (size_t i = 0; i < sorted.size(); ++i) {
    tensors.push_back(std::move(spec.tensors[sorted[i]]));
    declared[sorted[i]] = i;
  }
  spec.tensors = std::move(tensors);
  RETURN_IF_ERROR(VerifyConfig(spec.config));
  RETURN_IF_ERROR(VerifySampling(spec.sampling));
  RETURN_IF_ERROR(VerifyTokenizer(spec.tokenizer, spec.config.vocab));
  RETURN_IF_ERROR(VerifyTexts(spec));
  RETURN_IF_ERROR(VerifyTensorNames(spec.tensors));
  RETURN_IF_ERROR(NumberChunks());
  RETURN_IF_ERROR(VerifyEncodings(spec.tensors));
  RETURN_IF_ERROR(VerifyTensors(spec));
  const size_t metadata_bytes = SerializeMetadata(spec).size();
  if (ZSTD_compressBound(metadata_bytes) > kMaxMetaBytes) {
    return Error(DSOPT_E_UNSUPPORTED, "metadata of %zu bytes, expected less than %u", metadata_bytes,
                 kMaxMetaBytes);
  }
  meta_reserved = ZSTD_compressBound(metadata_bytes);
  end = AlignUp(sizeof(Preamble) + meta_reserved, align());
  pending.reserve(options.chunk_bytes);
  return {};
}

const TensorSpec* Writer::Impl::Current() {
  while (next < declared.size() && spec.tensors[declared[next]].synthetic) ++next;
  return next < declared.size() ? &spec.tensors[declared[next]] : nullptr;
}

Status Writer::Impl::WriteChunk(std::span<const uint8_t> raw) {
  ChunkSpec& out = spec.chunks[chunk];
  ASSIGN_OR_RETURN(const std::span<const uint8_t> bytes,
                   encoder.Encode(raw, ElementBytes(Current()->dtype), options.compress, &out));
  out.offset = AlignUp(end, align());
  RETURN_IF_ERROR(sink.WriteAt(out.offset, bytes));
  end = out.offset + bytes.size();
  stored += bytes.size();
  ++chunk;
  return {};
}

// Whole chunks are encoded where they are; the rest is collected in `pending`.
Status Writer::Impl::Take(std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const TensorSpec* tensor = Current();
    const uint64_t want = spec.chunks[chunk].raw_size - pending.size();
    const std::span<const uint8_t> part =
        bytes.first(static_cast<size_t>(std::min<uint64_t>(want, bytes.size())));
    bytes = bytes.subspan(part.size());
    if (part.size() < want || !pending.empty()) pending.insert(pending.end(), part.begin(), part.end());
    if (part.size() == want) {
      RETURN_IF_ERROR(WriteChunk(pending.empty() ? part : pending));
      pending.clear();
    }
    tensor_done += part.size();
    if (tensor_done == tensor->raw_bytes) {
      ++next;
      tensor_done = 0;
    }
  }
  return {};
}

Status Writer::Impl::WriteMetadata() {
  const std::vector<uint8_t> metadata = SerializeMetadata(spec);
  std::vector<uint8_t> frame(ZSTD_compressBound(metadata.size()));
  const size_t size =
      ZSTD_compress(frame.data(), frame.size(), metadata.data(), metadata.size(), kMetadataLevel);
  if (ZSTD_isError(size) || size > meta_reserved) {
    return Error(DSOPT_E_INTERNAL, "writer: metadata of %zu bytes, %llu are reserved", size,
                 static_cast<unsigned long long>(meta_reserved));
  }
  frame.resize(size);
  if (spec.chunks.empty()) end = sizeof(Preamble) + size;
  Preamble preamble = {};
  std::memcpy(preamble.magic, kMagic, sizeof kMagic);
  preamble.major = kFormatMajor;
  preamble.minor = kFormatMinor;
  preamble.meta_offset = sizeof(Preamble);
  preamble.meta_stored = static_cast<uint32_t>(size);
  preamble.meta_raw = static_cast<uint32_t>(metadata.size());
  preamble.meta_checksum = Checksum(frame);
  preamble.file_bytes = end;
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(&preamble), sizeof preamble);
  preamble.preamble_checksum = Checksum(bytes.first(offsetof(Preamble, preamble_checksum)));
  RETURN_IF_ERROR(sink.WriteAt(sizeof(Preamble), frame));
  return sink.WriteAt(0, bytes);
}

Result<Writer> Writer::Create(const std::string& path, ModelSpec spec, const WriterOptions& options) {
  Writer writer(new Impl(path, std::move(spec), options));
  if (Status status = writer.impl_->Plan(); !status.ok()) {
    // What would make a file corrupt is a wrong argument here.
    const bool corrupt = status.code() == DSOPT_E_CORRUPT;
    return Error(corrupt ? DSOPT_E_INVALID_ARGUMENT : status.code(), "writer: %s",
                 std::string(status.message()).c_str());
  }
  RETURN_IF_ERROR(writer.impl_->sink.Open());
  return writer;
}

Writer::Writer(Writer&& other) noexcept { std::swap(impl_, other.impl_); }
Writer& Writer::operator=(Writer&& other) noexcept {
  std::swap(impl_, other.impl_);
  return *this;
}
Writer::~Writer() { delete impl_; }

Status Writer::Append(std::span<const uint8_t> bytes) {
  Impl& w = *impl_;
  RETURN_IF_ERROR(w.failure);
  uint64_t missing = 0;
  for (size_t i = w.next; i < w.declared.size() && missing < bytes.size() + w.tensor_done; ++i) {
    const TensorSpec& tensor = w.spec.tensors[w.declared[i]];
    if (!tensor.synthetic) missing += tensor.raw_bytes;
  }
  missing -= std::min(missing, w.tensor_done);
  if (w.finished || bytes.size() > missing) {
    return Error(DSOPT_E_INVALID_STATE, "writer: %zu bytes come, the declared tensors lack %llu", bytes.size(),
                 static_cast<unsigned long long>(w.finished ? 0 : missing));
  }
  w.failure = w.Take(bytes);
  return w.failure;
}

Status Writer::Finish() {
  Impl& w = *impl_;
  RETURN_IF_ERROR(w.failure);
  if (w.finished) return Error(DSOPT_E_INVALID_STATE, "writer: finished twice");
  if (const TensorSpec* tensor = w.Current()) {
    return Error(DSOPT_E_INVALID_STATE, "writer: finished with %llu bytes of tensor '%s', expected %llu",
                 static_cast<unsigned long long>(w.tensor_done), tensor->name.c_str(),
                 static_cast<unsigned long long>(tensor->raw_bytes));
  }
  w.failure = w.WriteMetadata();
  if (w.failure.ok()) w.failure = w.sink.Commit(w.end);
  w.finished = w.failure.ok();
  return w.failure;
}

std::vector<uint8_t> Writer::TakeBytes() { return impl_->sink.TakeBytes(); }
uint64_t Writer::stored_bytes() const { return impl_->stored; }

}  // namespace dsopt
