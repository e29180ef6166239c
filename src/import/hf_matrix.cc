#include "import/hf_matrix.h"

#include "base/float_types.h"

namespace dsopt {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr uint64_t kReadBytes = 1u << 20;

class PlainMatrix : public MatrixSource {
 public:
  PlainMatrix(const SafetensorsCheckpoint& checkpoint, const SafetensorsEntry& entry)
      : MatrixSource(entry.name, entry.dtype_name, entry.shape), checkpoint_(checkpoint), entry_(entry) {
    form_.dtype = entry.dtype;
  }

  Status ReadValues(uint64_t first, uint64_t count, dsopt_dtype to, uint8_t* dst) override {
    const uint64_t bytes = ElementBytes(entry_.dtype), begin = first * cols() * bytes;
    const uint64_t total = count * cols() * bytes;
    if (to == entry_.dtype) return checkpoint_.Read(entry_, begin, {dst, total});
    buffer_.resize(std::min(kReadBytes, total));
    for (uint64_t at = 0; at < total; at += buffer_.size()) {
      const uint64_t part = std::min<uint64_t>(buffer_.size(), total - at);
      RETURN_IF_ERROR(checkpoint_.Read(entry_, begin + at, {buffer_.data(), part}));
      ConvertElements(entry_.dtype, buffer_.data(), to, dst + at / bytes * ElementBytes(to), part / bytes);
    }
    return {};
  }

 private:
  const SafetensorsCheckpoint& checkpoint_;
  const SafetensorsEntry& entry_;
  std::vector<uint8_t> buffer_;
};

std::string OneOf(std::initializer_list<const char*> types) {
  std::string text;
  size_t left = types.size();
  for (const char* type : types) {
    text += type;
    if (--left > 0) text += left == 1 ? " or " : ", ";
  }
  return text;
}

}  // namespace

Result<const SafetensorsEntry*> RequireEntry(const SafetensorsCheckpoint& checkpoint, const std::string& name,
                                             const std::vector<uint64_t>& shape,
                                             std::initializer_list<const char*> types, UsedEntries* used) {
  const SafetensorsEntry* entry = checkpoint.Find(name);
  if (entry == nullptr) {
    return Error(DSOPT_E_CORRUPT, "checkpoint: tensor '%s' is missing, expected shape %s", name.c_str(),
                 ShapeText(shape).c_str());
  }
  if (entry->shape != shape) {
    return Error(DSOPT_E_CORRUPT, "checkpoint: tensor '%s' has shape %s, expected %s from config.json",
                 name.c_str(), ShapeText(entry->shape).c_str(), ShapeText(shape).c_str());
  }
  for (const char* type : types) {
    if (entry->dtype_name != type) continue;
    used->insert(entry);
    return entry;
  }
  return Error(DSOPT_E_UNSUPPORTED, "checkpoint: tensor '%s' has type %s, expected %s", name.c_str(),
               entry->dtype_name.c_str(), OneOf(types).c_str());
}

Result<std::vector<float>> ReadFloats(const SafetensorsCheckpoint& checkpoint, const SafetensorsEntry& entry) {
  std::vector<uint8_t> bytes(entry.bytes);
  RETURN_IF_ERROR(checkpoint.Read(entry, 0, bytes));
  std::vector<float> values(entry.bytes / ElementBytes(entry.dtype));
  ConvertElements(entry.dtype, bytes.data(), DSOPT_F32, values.data(), values.size());
  return values;
}

Result<std::unique_ptr<MatrixSource>> OpenHfMatrix(const SafetensorsCheckpoint& checkpoint,
                                                   const HfQuantization& quantization, const std::string& name,
                                                   const std::vector<uint64_t>& shape, UsedEntries* used) {
  const SafetensorsEntry* entry = checkpoint.Find(name);
  const bool packed = quantization.method == HfMethod::kGptq || quantization.method == HfMethod::kAwq;
  if (entry == nullptr && packed && name.ends_with(kWeight)) {
    const std::string base = name.substr(0, name.size() - kWeight.size());
    if (checkpoint.Find(base + ".qweight") != nullptr) {
      return OpenPackedMatrix(checkpoint, quantization, base, shape, used);
    }
  }
  if (entry != nullptr && quantization.method == HfMethod::kScaled && shape.size() == 2 &&
      (entry->dtype == DSOPT_F8_E4M3 || entry->dtype == DSOPT_I8)) {
    return OpenScaledMatrix(checkpoint, quantization, *entry, shape, used);
  }
  ASSIGN_OR_RETURN(entry, RequireEntry(checkpoint, name, shape, {"F32", "F16", "BF16"}, used));
  return std::unique_ptr<MatrixSource>(std::make_unique<PlainMatrix>(checkpoint, *entry));
}

}  // namespace dsopt
