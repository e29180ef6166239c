#include "model/model.h"

#include "format/reader.h"
#include "model/arch/architecture.h"
#include "model/decoder.h"

namespace dsopt {

void ProgramPlan::Fill(dsopt_program_desc* desc) const {
  desc->precision = static_cast<uint32_t>(precision_);
  desc->blocks = blocks_.data();
  desc->block_count = static_cast<uint32_t>(blocks_.size());
  desc->ropes = ropes_.data();
  desc->rope_count = static_cast<uint32_t>(ropes_.size());
  desc->hidden = hidden_;
  desc->vocab = vocab_;
  desc->page_tokens = kPageTokens;
  desc->page_bytes = page_bytes_;
  desc->kv_dtype = kv_dtype_;
}

Result<std::shared_ptr<Model>> Model::FromSource(Source& source, const dsopt_allocator& allocator,
                                                 const Logger& log) {
  ASSIGN_OR_RETURN(ModelSpec spec, ReadModelSpec(source, allocator));
  return Create(std::move(spec), log);
}

Result<std::shared_ptr<Model>> Model::Create(ModelSpec spec, const Logger& log) {
  RETURN_IF_ERROR(CheckConfig(spec.config));
  ASSIGN_OR_RETURN(const Architecture* architecture, FindArchitecture(spec.config.architecture));
  RETURN_IF_ERROR(architecture->check(spec.config));
  std::shared_ptr<Model> model(new Model(std::move(spec), log));
  const PageLayout pages = MakePageLayout(model->config(), DSOPT_BF16);
  model->declarations_ = RecordDecoder(*architecture, model->config(), pages, nullptr).declarations;
  model->parameter_count_ = CountParameters(model->declarations_);
  return model;
}

Model::~Model() = default;

uint64_t Model::raw_weight_bytes() const {
  uint64_t bytes = 0;
  for (const TensorSpec& tensor : spec_.tensors) bytes += tensor.raw_bytes;
  return bytes;
}

uint64_t Model::kv_bytes_per_token(dsopt_dtype kv_dtype) const {
  const dsopt_dtype dtype = kv_dtype == DSOPT_DTYPE_DEFAULT ? DSOPT_BF16 : kv_dtype;
  return (MakePageLayout(config(), dtype).page_bytes + kPageTokens - 1) / kPageTokens;
}

std::shared_ptr<Device> Model::device() const {
  std::lock_guard<std::mutex> lock(device_mutex_);
  return device_;
}

void Model::SetDevice(std::shared_ptr<Device> device, uint64_t weight_bytes) {
  std::lock_guard<std::mutex> lock(device_mutex_);
  device_ = std::move(device);
  weight_bytes_.store(weight_bytes, std::memory_order_relaxed);
}

void Model::Publish(std::vector<Weight> weights) {
  weights_ = std::move(weights);
  loaded_.store(true, std::memory_order_release);
}

Result<std::unique_ptr<const ProgramPlan>> Model::Plan(dsopt_dtype kv_dtype, dsopt_precision precision) const {
  if (!loaded()) return Error(DSOPT_E_INVALID_STATE, "the model's weights are not loaded");
  if (precision != DSOPT_PRECISION_FAST && precision != DSOPT_PRECISION_REFERENCE) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "precision is %d, expected 0 or 1", static_cast<int>(precision));
  }
  if (kv_dtype == DSOPT_DTYPE_DEFAULT)
    kv_dtype = precision == DSOPT_PRECISION_REFERENCE ? DSOPT_F32 : DSOPT_BF16;
  if (!IsCacheType(kv_dtype)) {
    return Error(DSOPT_E_UNSUPPORTED,
                 "kv_dtype is %d, expected F32 (%d), BF16 (%d), F8_E4M3 (%d), I8 (%d) or I4 (%d)",
                 static_cast<int>(kv_dtype), static_cast<int>(DSOPT_F32), static_cast<int>(DSOPT_BF16),
                 static_cast<int>(DSOPT_F8_E4M3), static_cast<int>(DSOPT_I8), static_cast<int>(DSOPT_I4));
  }
  ASSIGN_OR_RETURN(const Architecture* architecture, FindArchitecture(config().architecture));
  const PageLayout pages = MakePageLayout(config(), kv_dtype);
  Recording recording = RecordDecoder(*architecture, config(), pages, &weights_);
  auto plan = std::make_unique<ProgramPlan>();
  plan->blocks_ = std::move(recording.blocks);
  for (const RopeSpec& rope : recording.ropes) plan->rope_tables_.push_back(MakeRopeTable(rope));
  for (const RopeTable& table : plan->rope_tables_) {
    plan->ropes_.push_back(
        {table.spec.dim, table.spec.interleaved ? 1u : 0u, table.scale, 0, table.inv_freq.data()});
  }
  plan->hidden_ = config().hidden;
  plan->vocab_ = config().vocab;
  plan->page_bytes_ = pages.page_bytes;
  plan->kv_dtype_ = kv_dtype;
  plan->precision_ = precision;
  return std::unique_ptr<const ProgramPlan>(std::move(plan));
}

}  // namespace dsopt
