#include "model/weights.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/float_types.h"

namespace dsopt {
namespace {

constexpr int kMostUnknownNames = 8;  // in the log

Result<const TensorSpec*> RequireTensor(const ModelSpec& spec, const WeightPart& part) {
  const TensorSpec* tensor = FindTensor(spec.tensors, part.tensor);
  if (tensor == nullptr) {
    return Error(DSOPT_E_CORRUPT, "tensor '%s' is missing, expected shape %s", part.tensor.c_str(),
                 ShapeText(part.shape).c_str());
  }
  if (tensor->shape != part.shape) {
    return Error(DSOPT_E_CORRUPT, "tensor '%s' has shape %s, expected %s", part.tensor.c_str(),
                 ShapeText(tensor->shape).c_str(), ShapeText(part.shape).c_str());
  }
  if (!HasScales(tensor->encoding) && !IsFloatType(tensor->dtype)) {
    return Error(DSOPT_E_UNSUPPORTED, "tensor '%s' has type %s, expected f32, f16 or bf16", part.tensor.c_str(),
                 TypeName(tensor->dtype));
  }
  return tensor;
}

// All parts of a synthetic weight share one distribution, so one fill covers them.
Status CheckSyntheticParts(const WeightDeclaration& declaration,
                           const std::vector<const TensorSpec*>& tensors) {
  const TensorSpec& first = *tensors[0];
  for (const TensorSpec* tensor : tensors) {
    if (tensor->synthetic == first.synthetic &&
        (!first.synthetic || (tensor->synthetic_mean == first.synthetic_mean &&
                              tensor->synthetic_stddev == first.synthetic_stddev))) {
      continue;
    }
    return Error(DSOPT_E_UNSUPPORTED,
                 "tensors '%s' and '%s' of weight '%s' must both be stored or both be synthetic "
                 "with the same mean and deviation",
                 first.name.c_str(), tensor->name.c_str(), declaration.name.c_str());
  }
  return {};
}

bool MayBeEncoded(const WeightDeclaration& declaration) {
  switch (declaration.kind) {
    case DSOPT_WEIGHT_MATRIX:
      return declaration.batch == 1;
    case DSOPT_WEIGHT_GATE_UP:
    case DSOPT_WEIGHT_EXPERTS:
    case DSOPT_WEIGHT_EMBEDDING:
      return true;
    default:
      return false;
  }
}

uint32_t GroupRows(const TensorSpec& tensor) { return std::max(tensor.group_rows, 1u); }

// One weight has one encoding: the parts' groups must be equal, and continue each other where they meet.
Status CheckEncodedParts(const WeightDeclaration& declaration, const std::vector<const TensorSpec*>& tensors) {
  const TensorSpec& first = *tensors[0];
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorSpec& tensor = *tensors[i];
    if (!HasScales(tensor.encoding) && !HasScales(first.encoding)) continue;
    if (!MayBeEncoded(declaration)) {
      return Error(DSOPT_E_UNSUPPORTED,
                   "tensor '%s' is %s, but weight '%s' is of a kind that takes only f32, f16 or bf16",
                   tensor.name.c_str(), EncodingName(tensor.encoding), declaration.name.c_str());
    }
    if (tensor.encoding != first.encoding || GroupRows(tensor) != GroupRows(first) ||
        tensor.group_cols != first.group_cols || tensor.has_offset != first.has_offset) {
      return Error(
          DSOPT_E_UNSUPPORTED,
          "tensors '%s' (%s, groups of %u x %u) and '%s' (%s, groups of %u x %u) of weight '%s' must be "
          "encoded alike",
          first.name.c_str(), EncodingName(first.encoding), GroupRows(first), first.group_cols,
          tensor.name.c_str(), EncodingName(tensor.encoding), GroupRows(tensor), tensor.group_cols,
          declaration.name.c_str());
    }
    const uint64_t row = declaration.parts[i].dst_first / declaration.cols;
    if (row % GroupRows(tensor) != 0) {
      return Error(DSOPT_E_UNSUPPORTED,
                   "tensor '%s' starts at row %llu of weight '%s', expected a multiple of its %u",
                   tensor.name.c_str(), static_cast<unsigned long long>(row), declaration.name.c_str(),
                   GroupRows(tensor));
    }
  }
  return {};
}

// The part of a weight's grid of scales that belongs to a part of its elements.
WeightPart ScalePart(const WeightDeclaration& declaration, const WeightPart& part, const TensorSpec& tensor) {
  const auto ceil = [](uint64_t value, uint64_t by) { return value / by + (value % by != 0 ? 1 : 0); };
  const uint64_t group_rows = GroupRows(tensor);
  const uint64_t per_row = tensor.group_cols == 0 ? 1 : ceil(declaration.cols, tensor.group_cols);
  WeightPart out;
  out.batch = part.batch;
  out.length = ceil(part.length / declaration.cols, group_rows) * per_row;
  out.src_stride = part.src_stride == 0 ? 0 : out.length;
  out.dst_stride = part.dst_stride == 0 ? 0 : ceil(declaration.rows, group_rows) * per_row;
  out.dst_first = part.dst_first / declaration.cols / group_rows * per_row;
  return out;
}

void LogUnknown(const ModelSpec& spec, const std::set<const TensorSpec*>& used, const Logger& log) {
  int unknown = 0;
  for (const TensorSpec& tensor : spec.tensors) {
    if (used.count(&tensor) != 0) continue;
    if (++unknown <= kMostUnknownNames) {
      log.Log(DSOPT_LOG_WARN, "model", "tensor '%s' %s is not used by architecture '%s': ignored",
              tensor.name.c_str(), ShapeText(tensor.shape).c_str(), spec.config.architecture.c_str());
    }
  }
  if (unknown > kMostUnknownNames) {
    log.Log(DSOPT_LOG_WARN, "model", "%d more unused tensors are ignored", unknown - kMostUnknownNames);
  }
}

}  // namespace

uint64_t CountParameters(const std::vector<WeightDeclaration>& declarations) {
  uint64_t count = 0;
  for (const WeightDeclaration& declaration : declarations) {
    count += declaration.batch * declaration.rows * declaration.cols;
  }
  return count;
}

namespace {

// Synthetic scales are the backend's own choice.
bool HalfScales(const ModelSpec& spec, const std::vector<const TensorSpec*>& tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [&spec](const TensorSpec* tensor) {
    return tensor->synthetic || FindTensor(spec.tensors, ScalesName(tensor->name))->dtype == DSOPT_F16;
  });
}

// What the declaration is made of: type and encoding of its parts.
dsopt_weight_desc Describe(const ModelSpec& spec, const WeightDeclaration& declaration,
                           const std::vector<const TensorSpec*>& tensors) {
  dsopt_weight_desc desc = {};
  desc.struct_size = sizeof(desc);
  desc.kind = declaration.kind;
  desc.tied = declaration.tied ? 1 : 0;
  desc.batch = declaration.batch;
  desc.rows = declaration.rows;
  desc.cols = declaration.cols;
  desc.name = declaration.name.c_str();
  desc.dtype = tensors[0]->dtype;
  if (HasScales(tensors[0]->encoding)) {
    desc.encoding = tensors[0]->encoding;
    desc.group_rows = GroupRows(*tensors[0]);
    desc.group_cols = tensors[0]->group_cols;
    desc.has_offset = tensors[0]->has_offset ? 1 : 0;
    desc.scale_dtype = HalfScales(spec, tensors) ? DSOPT_F16 : DSOPT_F32;
    return desc;
  }
  bool lossless = MayBeEncoded(declaration);
  for (const TensorSpec* tensor : tensors) {
    desc.dtype = WiderFloatType(desc.dtype, tensor->dtype);
    lossless = lossless && tensor->encoding == DSOPT_ENCODING_LOSSLESS12;
  }
  if (lossless) desc.encoding = DSOPT_ENCODING_LOSSLESS12;
  return desc;
}

class PlanMaker {
 public:
  PlanMaker(const std::vector<WeightDeclaration>& declarations, const ModelSpec& spec)
      : declarations_(declarations), spec_(spec) {}

  Status Add(uint32_t weight) {
    const WeightDeclaration& declaration = declarations_[weight];
    std::vector<const TensorSpec*> tensors;
    for (const WeightPart& part : declaration.parts) {
      ASSIGN_OR_RETURN(tensors.emplace_back(), RequireTensor(spec_, part));
      used_.insert(tensors.back());
    }
    RETURN_IF_ERROR(CheckSyntheticParts(declaration, tensors));
    RETURN_IF_ERROR(CheckEncodedParts(declaration, tensors));
    plan_.weights.push_back(Describe(spec_, declaration, tensors));
    if (tensors[0]->synthetic) {
      // Weights cut from the same tensor must not repeat each other.
      const uint64_t seed = tensors[0]->synthetic_seed + declaration.parts[0].src_first;
      plan_.fills.push_back({weight, seed, tensors[0]->synthetic_mean, tensors[0]->synthetic_stddev});
      return {};
    }
    for (size_t p = 0; p < tensors.size(); ++p) {
      Target(*tensors[p])->targets.push_back({weight, &declaration.parts[p]});
      if (HasScales(tensors[p]->encoding)) AddScales(weight, declaration.parts[p], *tensors[p]);
    }
    return {};
  }

  LoadPlan Take(const Logger& log) {
    LogUnknown(spec_, used_, log);
    for (auto& [tensor, tensor_plan] : by_tensor_) plan_.tensors.push_back(std::move(tensor_plan));
    std::sort(plan_.tensors.begin(), plan_.tensors.end(), [](const TensorPlan& a, const TensorPlan& b) {
      return a.tensor->first_chunk < b.tensor->first_chunk;
    });
    return std::move(plan_);
  }

 private:
  TensorPlan* Target(const TensorSpec& tensor) {
    TensorPlan* plan = &by_tensor_[&tensor];
    plan->tensor = &tensor;
    return plan;
  }
  // The reader has seen that the tensors of scales and offsets are there (VerifyEncodings).
  void AddScales(uint32_t weight, const WeightPart& part, const TensorSpec& tensor) {
    const TensorSpec* scales = FindTensor(spec_.tensors, ScalesName(tensor.name));
    used_.insert(scales);
    TensorPlan* plan = Target(*scales);
    plan->scales = true;
    plan_.scale_parts.push_back(ScalePart(declarations_[weight], part, tensor));
    plan->targets.push_back({weight, &plan_.scale_parts.back()});
    if (!tensor.has_offset) return;
    plan->offsets = FindTensor(spec_.tensors, OffsetsName(tensor.name));
    used_.insert(plan->offsets);
  }

  const std::vector<WeightDeclaration>& declarations_;
  const ModelSpec& spec_;
  LoadPlan plan_;
  std::map<const TensorSpec*, TensorPlan> by_tensor_;
  std::set<const TensorSpec*> used_;
};

}  // namespace

Result<LoadPlan> MakeLoadPlan(const std::vector<WeightDeclaration>& declarations, const ModelSpec& spec,
                              const Logger& log) {
  PlanMaker maker(declarations, spec);
  for (size_t i = 0; i < declarations.size(); ++i) RETURN_IF_ERROR(maker.Add(static_cast<uint32_t>(i)));
  return maker.Take(log);
}

}  // namespace dsopt
