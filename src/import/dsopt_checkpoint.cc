#include "import/dsopt_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <set>
#include <utility>

#include "base/float_types.h"
#include "format/layout.h"

namespace dsopt {
namespace {

constexpr uint64_t kReadElements = 1u << 18;

// All experts below each other.
std::vector<uint64_t> FlatShape(const TensorSpec& tensor) {
  if (tensor.shape.size() == 1) return tensor.shape;
  uint64_t rows = 1;
  for (size_t i = 0; i + 1 < tensor.shape.size(); ++i) rows *= tensor.shape[i];
  return {rows, tensor.shape.back()};
}

class PlainDsopt : public MatrixSource {
 public:
  PlainDsopt(DsoptCheckpoint* checkpoint, const TensorSpec& tensor)
      : MatrixSource(tensor.name,
                     tensor.encoding == DSOPT_ENCODING_PLAIN ? TypeName(tensor.dtype) : "lossless12",
                     FlatShape(tensor)),
        checkpoint_(*checkpoint),
        tensor_(tensor) {
    form_.dtype = tensor.dtype;
  }
  Status ReadValues(uint64_t first, uint64_t count, dsopt_dtype to, uint8_t* dst) override {
    const uint64_t from_bytes = ElementBytes(form_.dtype), elements = count * cols();
    for (uint64_t at = 0; at < elements; at += kReadElements) {
      const uint64_t part = std::min(kReadElements, elements - at);
      buffer_.resize(part * from_bytes);
      RETURN_IF_ERROR(checkpoint_.Read(tensor_, (first * cols() + at) * from_bytes, buffer_));
      ConvertElements(form_.dtype, buffer_.data(), to, dst + at * ElementBytes(to), part);
    }
    return {};
  }

 private:
  DsoptCheckpoint& checkpoint_;
  const TensorSpec& tensor_;
  std::vector<uint8_t> buffer_;
};

// int8, fp8 or int4. Rows of experts follow each other; blocks of fp8 must not reach from one into the next.
class CodedDsopt : public EncodedSource {
 public:
  CodedDsopt(DsoptCheckpoint* checkpoint, const TensorSpec& tensor, const TensorSpec& scales,
             const TensorSpec* offsets)
      : EncodedSource(tensor.name, EncodingName(tensor.encoding), FlatShape(tensor)),
        checkpoint_(*checkpoint),
        tensor_(tensor),
        scales_(scales),
        offsets_(offsets) {
    form_.encoding = tensor.encoding;
    form_.group_rows = tensor.group_rows;
    form_.group_cols = tensor.group_cols;
    form_.has_offset = tensor.has_offset;
    form_.scale_type = scales.dtype;
  }
  Status ReadCodes(uint64_t first, uint64_t count, int8_t* dst) override {
    const uint64_t elements = count * cols();
    auto* bytes = reinterpret_cast<uint8_t*>(dst);
    if (tensor_.encoding != DSOPT_ENCODING_INT4)
      return checkpoint_.Read(tensor_, first * cols(), {bytes, elements});
    buffer_.resize(elements / 2);
    RETURN_IF_ERROR(checkpoint_.Read(tensor_, first * cols() / 2, buffer_));
    UnpackInt4(buffer_.data(), buffer_.size(), dst);
    return {};
  }
  Status ReadScales(uint64_t first, uint64_t count, float* scales, float* offsets) override {
    const uint64_t groups = GroupsAcross(form_, cols());
    RETURN_IF_ERROR(ReadGrid(scales_, first * groups, count * groups, scales));
    return offsets_ == nullptr ? Status() : ReadGrid(*offsets_, first * groups, count * groups, offsets);
  }

 private:
  Status ReadGrid(const TensorSpec& grid, uint64_t first, uint64_t count, float* dst) {
    buffer_.resize(count * ElementBytes(grid.dtype));
    RETURN_IF_ERROR(checkpoint_.Read(grid, first * ElementBytes(grid.dtype), buffer_));
    ConvertElements(grid.dtype, buffer_.data(), DSOPT_F32, dst, count);
    return {};
  }

  DsoptCheckpoint& checkpoint_;
  const TensorSpec& tensor_;
  const TensorSpec& scales_;
  const TensorSpec* offsets_;
  std::vector<uint8_t> buffer_;
};

Result<std::unique_ptr<MatrixSource>> MakeSource(DsoptCheckpoint* checkpoint, const TensorSpec& tensor) {
  if (tensor.synthetic) {
    return Error(DSOPT_E_UNSUPPORTED, "tensor '%s' is of random numbers, expected stored ones",
                 tensor.name.c_str());
  }
  if (!HasScales(tensor.encoding)) {
    if (!IsFloatType(tensor.dtype)) {
      return Error(DSOPT_E_UNSUPPORTED, "tensor '%s' has type %s, expected f32, f16 or bf16",
                   tensor.name.c_str(), TypeName(tensor.dtype));
    }
    return std::unique_ptr<MatrixSource>(std::make_unique<PlainDsopt>(checkpoint, tensor));
  }
  const bool many = tensor.shape.size() > 2 && tensor.group_rows > 1;
  if (many && tensor.shape[1] % tensor.group_rows != 0) {
    return Error(DSOPT_E_UNSUPPORTED, "tensor '%s': groups of %u rows in experts of %llu", tensor.name.c_str(),
                 tensor.group_rows, static_cast<unsigned long long>(tensor.shape[1]));
  }
  const TensorSpec* offsets = tensor.has_offset ? checkpoint->Find(OffsetsName(tensor.name)) : nullptr;
  return std::unique_ptr<MatrixSource>(
      std::make_unique<CodedDsopt>(checkpoint, tensor, *checkpoint->Find(ScalesName(tensor.name)), offsets));
}

}  // namespace

bool IsDsoptFile(const std::filesystem::path& file) {
  char magic[sizeof kMagic] = {};
  std::ifstream stream(file, std::ios::binary);
  return stream.read(magic, sizeof magic) && std::memcmp(magic, kMagic, sizeof magic) == 0;
}

Result<std::unique_ptr<DsoptCheckpoint>> DsoptCheckpoint::Open(const std::filesystem::path& file) {
  auto checkpoint = std::make_unique<DsoptCheckpoint>();
  ASSIGN_OR_RETURN(checkpoint->source_, OpenFileSource(file.string(), false));
  ASSIGN_OR_RETURN(checkpoint->spec_, ReadModelSpec(*checkpoint->source_, DefaultAllocator()));
  ASSIGN_OR_RETURN(ChunkReader reader,
                   ChunkReader::Create(checkpoint->spec_, *checkpoint->source_, DefaultAllocator(), true));
  checkpoint->reader_.emplace(std::move(reader));
  return checkpoint;
}

const TensorSpec* DsoptCheckpoint::Find(const std::string& name) const {
  return FindTensor(spec_.tensors, name);
}

// All chunks of a tensor but the last have chunk_bytes raw bytes: verify.h.
Status DsoptCheckpoint::Read(const TensorSpec& tensor, uint64_t offset, std::span<uint8_t> dst) {
  while (!dst.empty()) {
    const uint64_t chunk = tensor.first_chunk + offset / spec_.chunk_bytes, at = offset % spec_.chunk_bytes;
    if (chunk != held_chunk_) {
      held_chunk_ = UINT64_MAX;
      ASSIGN_OR_RETURN(held_, reader_->Read(static_cast<uint32_t>(chunk)));
      held_chunk_ = chunk;
    }
    const size_t part = std::min<size_t>(dst.size(), held_.size() - at);
    std::memcpy(dst.data(), held_.data() + at, part);
    dst = dst.subspan(part);
    offset += part;
  }
  return {};
}

Result<CheckpointMap> MapDsopt(DsoptCheckpoint* checkpoint, dsopt_dtype dtype) {
  CheckpointMap map;
  std::set<std::string> used;
  std::set<std::string> lossless;
  for (const CanonicalTensor& wanted : ListCanonicalTensors(checkpoint->spec().config)) {
    TensorSource source = MakeTensorSource(wanted);
    const TensorSpec* tensor = checkpoint->Find(source.spec.name);
    if (tensor == nullptr || tensor->shape != source.spec.shape) {
      return Error(DSOPT_E_CORRUPT, "tensor '%s' %s", source.spec.name.c_str(),
                   tensor == nullptr ? "is missing" : "has another shape than its configuration says");
    }
    ASSIGN_OR_RETURN(std::unique_ptr<MatrixSource> piece, MakeSource(checkpoint, *tensor));
    source.pieces.push_back(std::move(piece));
    used.insert({tensor->name, ScalesName(tensor->name), OffsetsName(tensor->name)});
    if (tensor->encoding == DSOPT_ENCODING_LOSSLESS12) lossless.insert(tensor->name);
    map.tensors.push_back(std::move(source));
  }
  ChooseForms(dtype, &map.tensors);
  for (TensorSource& tensor : map.tensors) {  // stays as it was, unless it becomes another type
    if (lossless.count(tensor.spec.name) != 0 && tensor.spec.dtype == DSOPT_BF16) {
      tensor.spec.encoding = DSOPT_ENCODING_LOSSLESS12;
    }
  }
  for (const TensorSpec& tensor : checkpoint->spec().tensors) {
    if (used.count(tensor.name) == 0) map.ignored.push_back(tensor.name);
  }
  return map;
}

}  // namespace dsopt
