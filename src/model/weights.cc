#include "model/weights.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/float_types.h"

namespace dsopt {
namespace {

constexpr int kMostUnknownNames = 8;  // in the log

const TensorSpec* FindTensor(const ModelSpec& spec, const std::string& name) {
  const auto it =
      std::lower_bound(spec.tensors.begin(), spec.tensors.end(), name,
                       [](const TensorSpec& tensor, const std::string& n) { return tensor.name < n; });
  return it != spec.tensors.end() && it->name == name ? &*it : nullptr;
}

Result<const TensorSpec*> RequireTensor(const ModelSpec& spec, const WeightPart& part) {
  const TensorSpec* tensor = FindTensor(spec, part.tensor);
  if (tensor == nullptr) {
    return Error(DSOPT_E_CORRUPT, "tensor '%s' is missing, expected shape %s", part.tensor.c_str(),
                 ShapeText(part.shape).c_str());
  }
  if (tensor->shape != part.shape) {
    return Error(DSOPT_E_CORRUPT, "tensor '%s' has shape %s, expected %s", part.tensor.c_str(),
                 ShapeText(tensor->shape).c_str(), ShapeText(part.shape).c_str());
  }
  if (!IsFloatType(tensor->dtype)) {
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

std::string ShapeText(const std::vector<uint64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i != 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

uint64_t CountParameters(const std::vector<WeightDeclaration>& declarations) {
  uint64_t count = 0;
  for (const WeightDeclaration& declaration : declarations) {
    count += declaration.batch * declaration.rows * declaration.cols;
  }
  return count;
}

Result<LoadPlan> MakeLoadPlan(const std::vector<WeightDeclaration>& declarations, const ModelSpec& spec,
                              const Logger& log) {
  LoadPlan plan;
  std::map<const TensorSpec*, TensorPlan> by_tensor;
  std::set<const TensorSpec*> used;
  for (size_t i = 0; i < declarations.size(); ++i) {
    const WeightDeclaration& declaration = declarations[i];
    std::vector<const TensorSpec*> tensors;
    for (const WeightPart& part : declaration.parts) {
      ASSIGN_OR_RETURN(tensors.emplace_back(), RequireTensor(spec, part));
      used.insert(tensors.back());
    }
    RETURN_IF_ERROR(CheckSyntheticParts(declaration, tensors));
    dsopt_weight_desc& desc = plan.weights.emplace_back();
    desc.struct_size = sizeof(desc);
    desc.kind = declaration.kind;
    desc.dtype = tensors[0]->dtype;
    for (const TensorSpec* tensor : tensors) desc.dtype = WiderFloatType(desc.dtype, tensor->dtype);
    desc.tied = declaration.tied ? 1 : 0;
    desc.batch = declaration.batch;
    desc.rows = declaration.rows;
    desc.cols = declaration.cols;
    desc.name = declaration.name.c_str();
    const auto weight = static_cast<uint32_t>(i);
    if (tensors[0]->synthetic) {
      // Weights cut from the same tensor must not repeat each other.
      const uint64_t seed = tensors[0]->synthetic_seed + declaration.parts[0].src_first;
      plan.fills.push_back({weight, seed, tensors[0]->synthetic_mean, tensors[0]->synthetic_stddev});
      continue;
    }
    for (size_t p = 0; p < tensors.size(); ++p) {
      TensorPlan& tensor_plan = by_tensor[tensors[p]];
      tensor_plan.tensor = tensors[p];
      tensor_plan.targets.push_back({weight, &declaration.parts[p]});
    }
  }
  LogUnknown(spec, used, log);
  for (auto& [tensor, tensor_plan] : by_tensor) plan.tensors.push_back(std::move(tensor_plan));
  std::sort(plan.tensors.begin(), plan.tensors.end(), [](const TensorPlan& a, const TensorPlan& b) {
    return a.tensor->first_chunk < b.tensor->first_chunk;
  });
  return plan;
}

}  // namespace dsopt
