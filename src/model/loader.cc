#include "model/loader.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/clock.h"
#include "base/float_types.h"

namespace dsopt {
namespace {

constexpr size_t kScratchElements = 64 * 1024;
constexpr uint32_t kMostWorkers = 16;  // more than feed any device

// Calls write(first of the target, first of src, count) for each run that a part takes from the tensor's
// elements [first, first + count).
template <typename WriteRun>
Status ForEachRun(const WeightPart& part, uint64_t first, uint64_t count, const WriteRun& write) {
  const uint64_t end = first + count;
  // src_stride 0 stands for a part that is not repeated.
  uint64_t b = part.src_stride == 0 ? 0 : first / part.src_stride;
  for (; b < part.batch; ++b) {
    const uint64_t part_first = b * part.src_stride + part.src_first, part_end = part_first + part.length;
    if (part_first >= end) break;
    const uint64_t from = std::max(first, part_first), to = std::min(end, part_end);
    if (from >= to) continue;
    RETURN_IF_ERROR(write(b * part.dst_stride + part.dst_first + (from - part_first), from - first, to - from));
  }
  return {};
}

// Bytes of the largest chunk of scales that have offsets.
uint64_t ScalesBytes(const LoadPlan& plan, const ModelSpec& spec) {
  uint64_t bytes = 0;
  for (const TensorPlan& tensor : plan.tensors) {
    if (tensor.offsets != nullptr) {
      bytes = std::max(bytes, std::min<uint64_t>(tensor.tensor->raw_bytes, spec.chunk_bytes));
    }
  }
  return bytes;
}

// Chunks in the order in which LoadChunk and LoadScales ask for them.
std::vector<uint32_t> ChunkOrder(const LoadPlan& plan) {
  std::vector<uint32_t> order;
  for (const TensorPlan& tensor : plan.tensors) {
    for (uint32_t i = 0; i < tensor.tensor->chunk_count; ++i) {
      order.push_back(tensor.tensor->first_chunk + i);
      if (tensor.scales && tensor.offsets != nullptr) order.push_back(tensor.offsets->first_chunk + i);
    }
  }
  return order;
}

}  // namespace

ModelLoader::ModelLoader(std::shared_ptr<Model> model, std::unique_ptr<Source> source,
                         std::shared_ptr<Device> device, const LoadOptions& options)
    : model_(std::move(model)), source_(std::move(source)), device_(std::move(device)), options_(options) {}

ModelLoader::~ModelLoader() = default;

Result<std::unique_ptr<ModelLoader>> ModelLoader::Create(std::shared_ptr<Model> model,
                                                         std::unique_ptr<Source> source,
                                                         std::shared_ptr<Device> device,
                                                         const dsopt_allocator& allocator,
                                                         const LoadOptions& options) {
  std::unique_ptr<ModelLoader> loader(
      new ModelLoader(std::move(model), std::move(source), std::move(device), options));
  ASSIGN_OR_RETURN(loader->plan_,
                   MakeLoadPlan(loader->model_->declarations_, loader->model_->spec(), loader->model_->log()));
  RETURN_IF_ERROR(loader->CheckScalesSupport());
  ASSIGN_OR_RETURN(const uint64_t packed_bytes, loader->PackedBytes());
  ASSIGN_OR_RETURN(loader->scratch_,
                   Buffer::Allocate(allocator, kScratchElements * sizeof(float), "loader scratch"));
  if (const uint64_t bytes = ScalesBytes(loader->plan_, loader->model_->spec()); bytes != 0) {
    ASSIGN_OR_RETURN(loader->scales_, Buffer::Allocate(allocator, bytes, "loader scales"));
  }
  ReadAheadOptions ahead;
  ahead.verify = options.verify;
  ahead.workers = std::min(options.workers, kMostWorkers);
  ASSIGN_OR_RETURN(loader->reader_, ReadAhead::Create(loader->model_->spec(), *loader->source_, allocator,
                                                      ChunkOrder(loader->plan_), ahead));
  loader->weights_.resize(loader->plan_.weights.size());
  loader->units_total_ = loader->plan_.fills.size();
  for (const TensorPlan& tensor : loader->plan_.tensors) loader->units_total_ += tensor.tensor->chunk_count;
  loader->model_->SetDevice(loader->device_, packed_bytes);
  return loader;
}

Status ModelLoader::CheckScalesSupport() const {
  if (device_->CanWriteScales()) return {};
  for (const dsopt_weight_desc& desc : plan_.weights) {
    if (!HasScales(desc.encoding)) continue;
    return Error(DSOPT_E_UNSUPPORTED, "weight '%s' has scales, which the backend of %s does not know",
                 desc.name, device_->info().id);
  }
  return {};
}

Result<uint64_t> ModelLoader::PackedBytes() const {
  uint64_t bytes = 0;
  for (const dsopt_weight_desc& desc : plan_.weights) {
    ASSIGN_OR_RETURN(uint64_t weight_bytes, device_->WeightBytes(desc));
    bytes += weight_bytes;
  }
  if (options_.max_device_bytes != 0 && bytes > options_.max_device_bytes) {
    return Error(DSOPT_E_DEVICE_MEMORY, "the weights take %llu bytes on %s, max_device_bytes is %llu",
                 static_cast<unsigned long long>(bytes), device_->info().id,
                 static_cast<unsigned long long>(options_.max_device_bytes));
  }
  const uint64_t free_bytes = device_->FreeBytes();
  if (free_bytes != 0 && bytes > free_bytes) {
    return Error(DSOPT_E_DEVICE_MEMORY, "the weights take %llu bytes on %s, %llu are free",
                 static_cast<unsigned long long>(bytes), device_->info().id,
                 static_cast<unsigned long long>(free_bytes));
  }
  return bytes;
}

Status ModelLoader::Step(uint64_t deadline_ns, bool* done, float* progress) {
  *done = false;
  while (failure_.ok() && !done_) {
    if (options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed)) {
      failure_ =
          Error(DSOPT_E_CANCELLED, "loading was cancelled after %llu of %llu parts",
                static_cast<unsigned long long>(units_done_), static_cast<unsigned long long>(units_total_));
      break;
    }
    failure_ = units_done_ < units_total_ ? StepUnit() : Complete();
    if (NowNs() >= deadline_ns) break;
  }
  if (progress != nullptr) {
    *progress = done_ ? 1.0f : static_cast<float>(units_done_) / static_cast<float>(units_total_ + 1);
  }
  if (!failure_.ok()) {
    weights_.clear();
    return failure_;
  }
  *done = done_;
  return {};
}

Status ModelLoader::StepUnit() {
  while (next_tensor_ < plan_.tensors.size()) {
    const TensorPlan& plan = plan_.tensors[next_tensor_];
    if (next_chunk_ < plan.tensor->chunk_count) {
      RETURN_IF_ERROR(LoadChunk(plan));
      ++next_chunk_;
      ++units_done_;
    }
    if (next_chunk_ < plan.tensor->chunk_count) return {};
    const uint64_t bytes = BytesOf(*plan.tensor, next_element_);
    if (bytes != plan.tensor->raw_bytes) {
      return Error(DSOPT_E_CORRUPT, "tensor '%s': %llu bytes in chunks, %llu expected from shape %s",
                   plan.tensor->name.c_str(), static_cast<unsigned long long>(bytes),
                   static_cast<unsigned long long>(plan.tensor->raw_bytes),
                   ShapeText(plan.tensor->shape).c_str());
    }
    ++next_tensor_;
    next_chunk_ = 0;
    next_element_ = 0;
    if (plan.tensor->chunk_count != 0) return {};
  }
  const WeightFill& fill = plan_.fills[next_fill_++];
  RETURN_IF_ERROR(EnsureWeight(fill.weight));
  ++units_done_;
  const dsopt_status status =
      device_->api().weight_fill(weights_[fill.weight].get(), fill.seed, fill.mean, fill.stddev);
  return status == DSOPT_OK ? Status() : BackendStatus(status, plan_.weights[fill.weight].name);
}

Status ModelLoader::LoadChunk(const TensorPlan& plan) {
  const TensorSpec& tensor = *plan.tensor;
  ASSIGN_OR_RETURN(std::span<const uint8_t> bytes, reader_->Read(tensor.first_chunk + next_chunk_));
  const uint64_t count = ElementsIn(tensor, bytes.size()), total = ElementsIn(tensor, tensor.raw_bytes);
  if (BytesOf(tensor, count) != bytes.size() || count > total - next_element_) {
    return Error(
        DSOPT_E_CORRUPT, "tensor '%s': chunk %u has %zu bytes, expected at most %llu in whole elements of %u",
        tensor.name.c_str(), tensor.first_chunk + next_chunk_, bytes.size(),
        static_cast<unsigned long long>(BytesOf(tensor, total - next_element_)), ElementBytes(tensor.dtype));
  }
  RETURN_IF_ERROR(plan.scales ? LoadScales(plan, bytes, count) : LoadValues(plan, bytes, count));
  next_element_ += count;
  return {};
}

Status ModelLoader::LoadValues(const TensorPlan& plan, std::span<const uint8_t> bytes, uint64_t count) {
  for (const TensorTarget& target : plan.targets) {
    RETURN_IF_ERROR(
        ForEachRun(*target.part, next_element_, count, [&](uint64_t dst, uint64_t src, uint64_t run) {
          return Write(target.weight, dst, run, *plan.tensor, bytes.data() + BytesOf(*plan.tensor, src));
        }));
  }
  return {};
}

// Offsets have the type and shape of their scales, so that chunk i of both holds the same groups.
Status ModelLoader::LoadScales(const TensorPlan& plan, std::span<const uint8_t> bytes, uint64_t count) {
  const uint8_t* scales = bytes.data();
  const uint8_t* offsets = nullptr;
  if (plan.offsets != nullptr) {
    const size_t size = bytes.size();
    std::memcpy(scales_.data(), scales, size);
    scales = scales_.data();
    ASSIGN_OR_RETURN(const std::span<const uint8_t> other,
                     reader_->Read(plan.offsets->first_chunk + next_chunk_));
    if (other.size() != size) {
      return Error(DSOPT_E_CORRUPT, "tensor '%s': chunk %u has %zu bytes, expected %zu as in '%s'",
                   plan.offsets->name.c_str(), next_chunk_, other.size(), size, plan.tensor->name.c_str());
    }
    offsets = other.data();
  }
  const dsopt_dtype dtype = plan.tensor->dtype;
  for (const TensorTarget& target : plan.targets) {
    RETURN_IF_ERROR(
        ForEachRun(*target.part, next_element_, count, [&](uint64_t dst, uint64_t src, uint64_t run) {
          const uint64_t at = src * ElementBytes(dtype);
          return WriteScales(target.weight, dst, run, dtype, scales + at,
                             offsets == nullptr ? nullptr : offsets + at);
        }));
  }
  return {};
}

// Elements of a tensor at src, which may have to become the weight's type.
Status ModelLoader::Write(uint32_t weight, uint64_t first_element, uint64_t count, const TensorSpec& tensor,
                          const uint8_t* src) {
  RETURN_IF_ERROR(EnsureWeight(weight));
  const dsopt_weight_desc& desc = plan_.weights[weight];
  const uint32_t element_bytes = ElementBytes(tensor.dtype);
  const bool direct = tensor.dtype == desc.dtype && reinterpret_cast<uintptr_t>(src) % element_bytes == 0;
  const uint64_t step = direct ? count : kScratchElements;
  for (uint64_t at = 0; at < count; at += step) {
    const uint64_t part = std::min(step, count - at);
    const void* elements = src + at * element_bytes;
    if (!direct) {
      ConvertElements(tensor.dtype, elements, desc.dtype, scratch_.data(), part);
      elements = scratch_.data();
    }
    const dsopt_status status =
        device_->api().weight_write(weights_[weight].get(), first_element + at, part, elements);
    if (status != DSOPT_OK) return BackendStatus(status, desc.name);
  }
  return {};
}

Status ModelLoader::WriteScales(uint32_t weight, uint64_t first_group, uint64_t count, dsopt_dtype dtype,
                                const uint8_t* scales, const uint8_t* offsets) {
  RETURN_IF_ERROR(EnsureWeight(weight));
  constexpr uint64_t kStep = kScratchElements / 2;
  float* const scale_values = reinterpret_cast<float*>(scratch_.data());
  float* const offset_values = offsets == nullptr ? nullptr : scale_values + kStep;
  for (uint64_t at = 0; at < count; at += kStep) {
    const uint64_t part = std::min(kStep, count - at), bytes = at * ElementBytes(dtype);
    ConvertElements(dtype, scales + bytes, DSOPT_F32, scale_values, part);
    if (offsets != nullptr) ConvertElements(dtype, offsets + bytes, DSOPT_F32, offset_values, part);
    const dsopt_status status = device_->api().weight_write_scales(weights_[weight].get(), first_group + at,
                                                                   part, scale_values, offset_values);
    if (status != DSOPT_OK) return BackendStatus(status, plan_.weights[weight].name);
  }
  return {};
}

Status ModelLoader::EnsureWeight(uint32_t index) {
  if (weights_[index]) return {};
  ASSIGN_OR_RETURN(weights_[index], device_->CreateWeight(plan_.weights[index]));
  return {};
}

Status ModelLoader::Complete() {
  const dsopt_status status = device_->api().weight_finish(device_->handle());
  if (status != DSOPT_OK) return BackendStatus(status, "weight_finish");
  model_->Publish(std::move(weights_));
  reader_.reset();
  source_.reset();
  scratch_.Reset();
  scales_.Reset();
  done_ = true;
  return {};
}

}  // namespace dsopt
