#include "import/gguf_reader.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/checked.h"

namespace dsopt {
namespace {

using ull = unsigned long long;

constexpr uint32_t kMagic = 0x46554747;
constexpr uint64_t kMostStringBytes = uint64_t{16} << 20, kWindowBytes = 1 << 16;
constexpr uint64_t kMostHeaderBytes = uint64_t{64} << 20;
constexpr uint64_t kMostElements = uint64_t{1} << 23, kMostNameBytes = 1024, kMostAlignment = 1 << 20;
constexpr uint32_t kMostDimensions = 4;
constexpr uint64_t kLeastPairBytes = 8 + 4 + 1, kLeastTensorBytes = 8 + 4 + 8 + 4 + 8;

enum ValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
  kTypes
};

// Bytes of a scalar; 0 for strings, arrays and unknown types.
uint32_t ScalarBytes(uint32_t type) {
  static constexpr uint8_t kBytes[kTypes] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type < kTypes ? kBytes[type] : 0;
}

// Reads little-endian values of the header through a window of the source. [thread-compatible]
class Cursor {
 public:
  explicit Cursor(Source* source) : source_(source), end_(std::min(source->size(), kMostHeaderBytes)) {}

  template <typename T>
  Status Scalar(T* out) {
    uint8_t bytes[sizeof(T)];
    RETURN_IF_ERROR(Bytes(bytes, sizeof(T)));
    std::memcpy(out, bytes, sizeof(T));
    return {};
  }
  Status String(uint64_t most_bytes, std::string* out) {
    uint64_t length;
    RETURN_IF_ERROR(Scalar(&length));
    if (length > most_bytes || length > Left()) {
      return Error(DSOPT_E_CORRUPT, "%s: a string of %llu bytes at %llu, expected at most %llu", name(),
                   static_cast<ull>(length), static_cast<ull>(position_),
                   static_cast<ull>(std::min(most_bytes, Left())));
    }
    out->resize(length);
    return Bytes(reinterpret_cast<uint8_t*>(out->data()), length);
  }
  uint64_t Left() const { return end_ - position_; }
  uint64_t position() const { return position_; }
  Status Truncated() const {
    const bool cut = end_ == source_->size();
    return Error(cut ? DSOPT_E_CORRUPT : DSOPT_E_UNSUPPORTED, "%s: the header goes on after %llu bytes, %s",
                 name(), static_cast<ull>(end_), cut ? "the file's end" : "the most that is read");
  }
  const char* name() const { return source_->name().c_str(); }

 private:
  Status Bytes(uint8_t* out, uint64_t length) {
    if (length > Left()) return Truncated();
    while (length > 0) {
      if (position_ < window_begin_ || position_ >= window_begin_ + window_.size()) {
        window_.resize(std::min(kWindowBytes, Left()));
        window_begin_ = position_;
        RETURN_IF_ERROR(source_->ReadAt(position_, window_));
      }
      const uint64_t offset = position_ - window_begin_;
      const uint64_t count = std::min<uint64_t>(length, window_.size() - offset);
      std::memcpy(out, window_.data() + offset, count);
      out += count;
      length -= count;
      position_ += count;
    }
    return {};
  }

  Source* source_;
  const uint64_t end_;  // of what may be read
  uint64_t position_ = 0, window_begin_ = 0;
  std::vector<uint8_t> window_;
};

// One scalar as a double and, where it is whole, as an integer. Exact for everything that metadata counts.
Status ReadScalar(Cursor* cursor, uint32_t type, int64_t* integer, double* number) {
  uint64_t raw = 0;
  if (type == kF32 || type == kF64) {
    float single = 0;
    RETURN_IF_ERROR(type == kF32 ? cursor->Scalar(&single) : cursor->Scalar(number));
    if (type == kF32) *number = single;
    return {};
  }
  for (uint32_t i = 0; i < ScalarBytes(type); ++i) {
    uint8_t byte;
    RETURN_IF_ERROR(cursor->Scalar(&byte));
    raw |= uint64_t{byte} << (8 * i);
  }
  if (type == kU64 && raw > INT64_MAX) {
    return Error(DSOPT_E_UNSUPPORTED, "%s: the metadata value %llu, expected less than 2^63", cursor->name(),
                 static_cast<ull>(raw));
  }
  *integer = type == kI8    ? static_cast<int8_t>(raw)
             : type == kI16 ? static_cast<int16_t>(raw)
             : type == kI32 ? static_cast<int32_t>(raw)
                            : static_cast<int64_t>(raw);
  if (type == kBool) *integer = raw != 0 ? 1 : 0;
  *number = static_cast<double>(*integer);
  return {};
}

Status ReadArray(Cursor* cursor, const std::string& key, GgufValue* out) {
  uint32_t element;
  uint64_t count;
  RETURN_IF_ERROR(cursor->Scalar(&element));
  RETURN_IF_ERROR(cursor->Scalar(&count));
  if (element != kString && ScalarBytes(element) == 0) {
    return Error(DSOPT_E_UNSUPPORTED,
                 "%s: metadata '%.80s' is an array of type %u, expected numbers or strings", cursor->name(),
                 key.c_str(), element);
  }
  if (count > cursor->Left() / (element == kString ? 8 : ScalarBytes(element))) return cursor->Truncated();
  if (count > kMostElements) {
    return Error(DSOPT_E_UNSUPPORTED, "%s: metadata '%.80s' has %llu elements, expected at most %llu",
                 cursor->name(), key.c_str(), static_cast<ull>(count), static_cast<ull>(kMostElements));
  }
  out->kind = element == kString ? GgufKind::kStrings : GgufKind::kNumbers;
  (element == kString ? out->texts.reserve(count) : out->numbers.reserve(count));
  for (uint64_t i = 0; i < count; ++i) {
    if (element == kString) {
      RETURN_IF_ERROR(cursor->String(kMostStringBytes, &out->texts.emplace_back()));
    } else {
      int64_t integer = 0;
      RETURN_IF_ERROR(ReadScalar(cursor, element, &integer, &out->numbers.emplace_back()));
    }
  }
  return {};
}

Status ReadValue(Cursor* cursor, const std::string& key, uint32_t type, GgufValue* out) {
  if (type == kArray) return ReadArray(cursor, key, out);
  if (type == kString) {
    out->kind = GgufKind::kString;
    return cursor->String(kMostStringBytes, &out->text);
  }
  if (ScalarBytes(type) == 0) {
    return Error(DSOPT_E_CORRUPT, "%s: metadata '%.80s' has type %u, expected 0 to %u", cursor->name(),
                 key.c_str(), type, kTypes - 1);
  }
  out->kind = type == kF32 || type == kF64 ? GgufKind::kFloat
              : type == kBool              ? GgufKind::kBool
                                           : GgufKind::kInteger;
  return ReadScalar(cursor, type, &out->integer, &out->number);
}

Status ReadValues(Cursor* cursor, uint64_t pairs, GgufHeader* header) {
  for (uint64_t i = 0; i < pairs; ++i) {
    std::string key;
    uint32_t type;
    RETURN_IF_ERROR(cursor->String(kMostStringBytes, &key));
    RETURN_IF_ERROR(cursor->Scalar(&type));
    GgufValue value;
    RETURN_IF_ERROR(ReadValue(cursor, key, type, &value));
    if (!header->values.emplace(key, std::move(value)).second) {
      return Error(DSOPT_E_CORRUPT, "%s: metadata '%.80s' appears twice", cursor->name(), key.c_str());
    }
  }
  return {};
}

// offset is relative to the data area until PlaceTensors.
Status ReadTensor(Cursor* cursor, GgufTensor* tensor) {
  uint32_t dimensions, type;
  RETURN_IF_ERROR(cursor->String(kMostNameBytes, &tensor->name));
  const char* name = tensor->name.c_str();
  RETURN_IF_ERROR(cursor->Scalar(&dimensions));
  if (dimensions == 0 || dimensions > kMostDimensions) {
    return Error(DSOPT_E_CORRUPT, "%s: tensor '%.80s' has %u dimensions, expected 1 to %u", cursor->name(),
                 name, dimensions, kMostDimensions);
  }
  tensor->shape.resize(dimensions);
  for (uint32_t i = dimensions; i-- > 0;) RETURN_IF_ERROR(cursor->Scalar(&tensor->shape[i]));
  RETURN_IF_ERROR(cursor->Scalar(&type));
  RETURN_IF_ERROR(cursor->Scalar(&tensor->offset));
  tensor->block = FindGgufBlock(type);
  if (tensor->block == nullptr) {
    return Error(DSOPT_E_UNSUPPORTED, "%s: tensor '%.80s' has type %u, which is unknown", cursor->name(), name,
                 type);
  }
  const uint64_t columns = tensor->shape.back();
  std::optional<uint64_t> bytes = columns / tensor->block->elements;
  for (size_t i = 0; bytes && i + 1 < tensor->shape.size(); ++i) bytes = CheckedMul(*bytes, tensor->shape[i]);
  if (bytes) bytes = CheckedMul(*bytes, uint64_t{tensor->block->bytes});
  if (!bytes || *bytes == 0 || columns % tensor->block->elements != 0) {
    return Error(
        DSOPT_E_CORRUPT,
        "%s: tensor '%.80s' of type %s has rows of %llu elements, expected whole blocks of %u and a size "
        "between 1 and 2^64",
        cursor->name(), name, tensor->block->name, static_cast<ull>(columns), tensor->block->elements);
  }
  tensor->bytes = *bytes;
  return {};
}

// Makes offsets absolute and checks that ranges are aligned, inside the file and disjoint.
Status PlaceTensors(const Cursor& cursor, uint64_t file_bytes, uint64_t alignment, GgufHeader* header) {
  std::vector<GgufTensor>& tensors = header->tensors;
  if (tensors.empty()) return {};
  const uint64_t data = (cursor.position() + alignment - 1) / alignment * alignment;
  std::sort(tensors.begin(), tensors.end(),
            [](const GgufTensor& a, const GgufTensor& b) { return a.offset < b.offset; });
  uint64_t end = 0;
  for (GgufTensor& tensor : tensors) {
    const bool fits = data <= file_bytes && RangeFits(tensor.offset, tensor.bytes, file_bytes - data);
    if (!fits || tensor.offset % alignment != 0 || tensor.offset < end) {
      return Error(
          DSOPT_E_CORRUPT,
          "%s: tensor '%.80s' takes %llu bytes from %llu of the data, expected a multiple of %llu, at least "
          "%llu, that fits in %llu",
          cursor.name(), tensor.name.c_str(), static_cast<ull>(tensor.bytes), static_cast<ull>(tensor.offset),
          static_cast<ull>(alignment), static_cast<ull>(end),
          static_cast<ull>(data <= file_bytes ? file_bytes - data : 0));
    }
    end = tensor.offset + tensor.bytes;
    tensor.offset += data;
  }
  std::sort(tensors.begin(), tensors.end(),
            [](const GgufTensor& a, const GgufTensor& b) { return a.name < b.name; });
  for (size_t i = 1; i < tensors.size(); ++i) {
    if (tensors[i].name == tensors[i - 1].name) {
      return Error(DSOPT_E_CORRUPT, "%s: tensor '%.80s' appears twice", cursor.name(), tensors[i].name.c_str());
    }
  }
  return {};
}

constexpr GgufBlock kBlocks[] = {
    {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},      {3, "Q4_1", 32, 20},
    {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},      {8, "Q8_0", 32, 34},      {9, "Q8_1", 32, 36},
    {10, "Q2_K", 256, 84},    {11, "Q3_K", 256, 110},   {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210},   {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66}, {17, "IQ2_XS", 256, 74},
    {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},   {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},
    {22, "IQ2_S", 256, 82},   {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},         {25, "I16", 1, 2},
    {26, "I32", 1, 4},        {27, "I64", 1, 8},        {28, "F64", 1, 8},        {29, "IQ1_M", 256, 56},
    {30, "BF16", 1, 2},       {34, "TQ1_0", 256, 54},   {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17}};

}  // namespace

const GgufBlock* FindGgufBlock(uint32_t type) {
  for (const GgufBlock& block : kBlocks) {
    if (block.type == type) return &block;
  }
  return nullptr;
}

Result<GgufHeader> ReadGgufHeader(Source& source, bool with_tensors) {
  Cursor cursor(&source);
  uint32_t magic, version;
  uint64_t tensors, pairs;
  RETURN_IF_ERROR(cursor.Scalar(&magic));
  if (magic != kMagic) return Error(DSOPT_E_CORRUPT, "%s: no GGUF file", cursor.name());
  RETURN_IF_ERROR(cursor.Scalar(&version));
  if (version != 2 && version != 3) {
    return Error(DSOPT_E_UNSUPPORTED, "%s: GGUF version %u, expected 2 or 3, little-endian", cursor.name(),
                 version);
  }
  RETURN_IF_ERROR(cursor.Scalar(&tensors));
  RETURN_IF_ERROR(cursor.Scalar(&pairs));
  if (pairs > cursor.Left() / kLeastPairBytes) return cursor.Truncated();
  GgufHeader header;
  RETURN_IF_ERROR(ReadValues(&cursor, pairs, &header));
  if (!with_tensors) return header;
  if (tensors > cursor.Left() / kLeastTensorBytes) return cursor.Truncated();
  const GgufKeys general(header, "general");
  ASSIGN_OR_RETURN(const uint32_t alignment, general.Uint("alignment", 32));
  if (alignment == 0 || alignment > kMostAlignment || (alignment & (alignment - 1)) != 0) {
    return general.Unsupported("alignment", "a power of two up to 2^20");
  }
  header.tensors.resize(tensors);
  for (GgufTensor& tensor : header.tensors) RETURN_IF_ERROR(ReadTensor(&cursor, &tensor));
  RETURN_IF_ERROR(PlaceTensors(cursor, source.size(), alignment, &header));
  return header;
}

const GgufTensor* FindGgufTensor(const GgufHeader& header, std::string_view name) {
  const auto it =
      std::lower_bound(header.tensors.begin(), header.tensors.end(), name,
                       [](const GgufTensor& tensor, std::string_view n) { return tensor.name < n; });
  return it != header.tensors.end() && it->name == name ? &*it : nullptr;
}

}  // namespace dsopt
