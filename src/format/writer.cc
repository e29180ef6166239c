#include "format/writer.h"

#include <fcntl.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/checked.h"
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
    if (path_.empty()) return Status();
    file_ = open(part_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file_ < 0) return Failed("cannot create");
    created_ = true;
    return Status();
  }
  Status WriteAt(uint64_t offset, std::span<const uint8_t> bytes) {
    if (path_.empty()) {
      if (memory_.size() < offset + bytes.size()) memory_.resize(offset + bytes.size());
      std::copy(bytes.begin(), bytes.end(), memory_.begin() + static_cast<ptrdiff_t>(offset));
      return Status();
    }
    size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t wrote = pwrite(file_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0) return Failed("writing failed");
      done += static_cast<size_t>(wrote);
    }
    return Status();
  }
  // Makes the file bytes long, durable and visible under its own name.
  Status Commit(uint64_t bytes) {
    if (path_.empty()) {
      memory_.resize(bytes);
      return Status();
    }
    if (ftruncate(file_, static_cast<off_t>(bytes)) != 0 || fsync(file_) != 0) return Failed("writing failed");
    const int file = std::exchange(file_, -1);
    if (close(file) != 0) return Failed("closing failed");
    if (rename(part_.c_str(), path_.c_str()) != 0) return Failed("cannot rename to its final name");
    created_ = false;
    return Status();
  }
  std::vector<uint8_t> TakeBytes() { return std::move(memory_); }

 private:
  Status Failed(const char* what) const {
    return Error(DSOPT_E_IO, "%s: %s: %s", part_.c_str(), what, std::strerror(errno));
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
  Status FlushChunk();
  uint64_t align() const { return options.compress ? kChunkAlign : kMappedChunkAlign; }

  ModelSpec spec;
  WriterOptions options;
  Sink sink;
  ChunkEncoder encoder;
  std::vector<uint8_t> pending;  // of the current chunk
  size_t tensor = 0;             // in declaration order
  uint64_t tensor_done = 0;      // bytes of it that have come
  size_t chunk = 0;
  uint64_t meta_reserved = 0;    // bytes kept free for the metadata block
  uint64_t end = 0;              // of the file so far
  uint64_t stored = 0;
  bool finished = false;
};

// Numbers the chunks of all tensors and reserves room for the metadata.
Status Writer::Impl::Plan() {
  if (options.chunk_bytes < 64 || options.chunk_bytes > kMaxChunkBytes || options.chunk_bytes % 64 != 0) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "writer: chunks of %u bytes, expected a multiple of 64 up to %u",
                 options.chunk_bytes, kMaxChunkBytes);
  }
  RETURN_IF_ERROR(VerifyConfig(spec.config));
  RETURN_IF_ERROR(VerifyTokenizer(spec.tokenizer));
  spec.chunk_bytes = options.chunk_bytes;
  spec.chunks.clear();
  for (TensorSpec& t : spec.tensors) {
    uint64_t bytes = ElementBytes(t.dtype);
    for (uint64_t extent : t.shape) {
      const auto product = CheckedMul(bytes, extent);
      bytes = product ? *product : 0;
    }
    if (bytes == 0 || t.shape.empty() || t.shape.size() > 4) {
      return Error(DSOPT_E_INVALID_ARGUMENT, "tensor '%s': type %d and %zu dimensions give no size", t.name.c_str(),
                   static_cast<int>(t.dtype), t.shape.size());
    }
    t.raw_bytes = bytes;
    t.first_chunk = static_cast<uint32_t>(spec.chunks.size());
    t.chunk_count = t.synthetic ? 0 : static_cast<uint32_t>((bytes + options.chunk_bytes - 1) / options.chunk_bytes);
    spec.chunks.resize(spec.chunks.size() + t.chunk_count);
  }
  ASSIGN_OR_RETURN(const std::vector<uint8_t> metadata, SerializeMetadata(spec));
  if (metadata.size() > kMaxMetaBytes) {
    return Error(DSOPT_E_UNSUPPORTED, "metadata: %zu bytes, a file may have %u", metadata.size(), kMaxMetaBytes);
  }
  meta_reserved = ZSTD_compressBound(metadata.size());
  end = AlignUp(sizeof(Preamble) + meta_reserved, align());
  pending.reserve(options.chunk_bytes);
  return Status();
}

Status Writer::Impl::FlushChunk() {
  ChunkSpec& out = spec.chunks[chunk++];
  ASSIGN_OR_RETURN(const std::span<const uint8_t> bytes,
                   encoder.Encode(pending, ElementBytes(spec.tensors[tensor].dtype), options.compress, &out));
  out.offset = AlignUp(end, align());
  RETURN_IF_ERROR(sink.WriteAt(out.offset, bytes));
  end = out.offset + bytes.size();
  stored += bytes.size();
  pending.clear();
  return Status();
}

Result<Writer> Writer::Create(const std::string& path, ModelSpec spec, const WriterOptions& options) {
  Writer writer(new Impl(path, std::move(spec), options));
  RETURN_IF_ERROR(writer.impl_->Plan());
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
  while (!bytes.empty()) {
    while (w.tensor < w.spec.tensors.size() && w.spec.tensors[w.tensor].synthetic) ++w.tensor;
    if (w.tensor == w.spec.tensors.size()) {
      return Error(DSOPT_E_INVALID_STATE, "writer: %zu bytes more than the declared tensors have", bytes.size());
    }
    const uint64_t left = w.spec.tensors[w.tensor].raw_bytes - w.tensor_done;
    const size_t room = w.options.chunk_bytes - w.pending.size();
    const size_t take = static_cast<size_t>(std::min({left, uint64_t{room}, uint64_t{bytes.size()}}));
    w.pending.insert(w.pending.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(take));
    w.tensor_done += take;
    bytes = bytes.subspan(take);
    if (take == left || take == room) RETURN_IF_ERROR(w.FlushChunk());
    if (take == left) {
      ++w.tensor;
      w.tensor_done = 0;
    }
  }
  return Status();
}

Status Writer::Finish() {
  Impl& w = *impl_;
  while (w.tensor < w.spec.tensors.size() && w.spec.tensors[w.tensor].synthetic) ++w.tensor;
  if (w.finished || w.tensor < w.spec.tensors.size()) {
    return Error(DSOPT_E_INVALID_STATE, "writer: finished with %zu of %zu tensors written", w.tensor,
                 w.spec.tensors.size());
  }
  ASSIGN_OR_RETURN(const std::vector<uint8_t> metadata, SerializeMetadata(w.spec));
  std::vector<uint8_t> frame(ZSTD_compressBound(metadata.size()));
  const size_t size = ZSTD_compress(frame.data(), frame.size(), metadata.data(), metadata.size(), kMetadataLevel);
  if (ZSTD_isError(size) || size > w.meta_reserved) {
    return Error(DSOPT_E_INTERNAL, "metadata: %zu bytes do not fit the %llu reserved", size,
                 static_cast<unsigned long long>(w.meta_reserved));
  }
  frame.resize(size);
  Preamble preamble = {};
  std::memcpy(preamble.magic, kMagic, sizeof kMagic);
  preamble.major = kFormatMajor;
  preamble.minor = kFormatMinor;
  preamble.meta_offset = sizeof(Preamble);
  preamble.meta_stored = static_cast<uint32_t>(size);
  preamble.meta_raw = static_cast<uint32_t>(metadata.size());
  preamble.meta_checksum = Checksum(frame);
  preamble.file_bytes = w.end;
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(&preamble), sizeof preamble);
  preamble.preamble_checksum = Checksum(bytes.first(offsetof(Preamble, preamble_checksum)));
  RETURN_IF_ERROR(w.sink.WriteAt(sizeof(Preamble), frame));
  RETURN_IF_ERROR(w.sink.WriteAt(0, bytes));
  RETURN_IF_ERROR(w.sink.Commit(w.end));
  w.finished = true;
  return Status();
}

std::vector<uint8_t> Writer::TakeBytes() { return impl_->sink.TakeBytes(); }
uint64_t Writer::stored_bytes() const { return impl_->stored; }

}  // namespace dsopt
