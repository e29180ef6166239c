#include "import/tensor_source.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <utility>

#include "base/float_types.h"

namespace dsopt {
namespace {

bool IsInteger(const MatrixForm& form) {
  return form.encoding == DSOPT_ENCODING_INT8 || form.encoding == DSOPT_ENCODING_INT4;
}

// The form that holds what both hold; nullopt if none does.
std::optional<MatrixForm> CommonForm(const MatrixForm& a, const MatrixForm& b) {
  MatrixForm form = a;
  if (a.encoding == DSOPT_ENCODING_PLAIN || b.encoding == DSOPT_ENCODING_PLAIN) return std::nullopt;
  if (b.scale_type == DSOPT_F32) form.scale_type = DSOPT_F32;
  if (!IsInteger(a) || !IsInteger(b)) {
    const bool same = a.encoding == b.encoding && a.group_rows == b.group_rows && a.group_cols == b.group_cols;
    return same ? std::optional(form) : std::nullopt;
  }
  if (b.encoding == DSOPT_ENCODING_INT8) form.encoding = DSOPT_ENCODING_INT8;
  form.group_cols = std::gcd(a.group_cols, b.group_cols);  // 0, the whole row, is a multiple of all
  form.has_offset = a.has_offset || b.has_offset;
  const uint32_t least = form.encoding == DSOPT_ENCODING_INT8 ? 16 : 32;
  return form.group_cols % least == 0 ? std::optional(form) : std::nullopt;
}

// Groups of several rows must not reach from one tensor of the weight into the next.
bool GroupsMeet(const MatrixForm& form, const std::vector<TensorSource*>& parts) {
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    const std::vector<uint64_t>& shape = parts[i]->spec.shape;
    if (form.group_rows > 1 && shape[shape.size() - 2] % form.group_rows != 0) return false;
  }
  return true;
}

// Of all pieces of all tensors of one weight.
std::optional<MatrixForm> CommonForm(const std::vector<TensorSource*>& parts) {
  std::optional<MatrixForm> form;
  for (const TensorSource* part : parts) {
    for (const auto& piece : part->pieces) {
      if (piece->form().encoding == DSOPT_ENCODING_PLAIN) return std::nullopt;
      form = form ? CommonForm(*form, piece->form()) : piece->form();
      if (!form) return std::nullopt;
    }
  }
  return form && GroupsMeet(*form, parts) ? form : std::nullopt;
}

void SetPlain(dsopt_dtype dtype, TensorSource* tensor) {
  tensor->spec.encoding = DSOPT_ENCODING_PLAIN;
  if (dtype != DSOPT_DTYPE_DEFAULT && tensor->spec.shape.size() > 1) {
    tensor->spec.dtype = dtype;
    return;
  }
  tensor->spec.dtype = tensor->pieces[0]->form().dtype;
  for (const auto& piece : tensor->pieces) {
    tensor->spec.dtype = WiderFloatType(tensor->spec.dtype, piece->form().dtype);
  }
}

std::string FromText(const TensorSource& tensor, const std::vector<const TensorSource*>& weight) {
  std::vector<std::string> own, beside;
  const auto add = [](const std::string& type, std::vector<std::string>* list) {
    if (std::find(list->begin(), list->end(), type) == list->end()) list->push_back(type);
  };
  for (const auto& piece : tensor.pieces) add(piece->type(), &own);
  for (const TensorSource* other : weight) {
    for (const auto& piece : other->pieces) {
      if (std::find(own.begin(), own.end(), piece->type()) == own.end()) add(piece->type(), &beside);
    }
  }
  std::sort(beside.begin(), beside.end());
  std::string text;
  for (const std::string& type : own) text += (text.empty() ? "" : ", ") + type;
  for (size_t i = 0; i < beside.size(); ++i) text += (i == 0 ? " beside " : ", ") + beside[i];
  return text;
}

}  // namespace

std::string FormText(const TensorSpec& spec) {
  if (spec.encoding == DSOPT_ENCODING_PLAIN) return TypeName(spec.dtype);
  std::string text = EncodingName(spec.encoding);
  if (!HasScales(spec.encoding)) return text;
  if (spec.group_rows > 1) {
    text += Format(", groups of %u x %u", spec.group_rows, spec.group_cols);
  } else {
    text += spec.group_cols == 0 ? ", a scale per row" : Format(", groups of %u", spec.group_cols);
  }
  return text + (spec.has_offset ? ", offsets" : "");
}

TensorSource MakeTensorSource(const CanonicalTensor& tensor) {
  TensorSource source;
  source.spec.name = tensor.name();
  source.spec.shape = tensor.shape;
  if (!tensor.weight.empty()) source.weight = std::to_string(tensor.layer) + "." + tensor.weight;
  return source;
}

void ChooseForms(dsopt_dtype dtype, std::vector<TensorSource>* tensors) {
  std::map<std::string, std::vector<TensorSource*>> weights;
  for (TensorSource& tensor : *tensors) {
    if (tensor.weight.empty() || dtype != DSOPT_DTYPE_DEFAULT)
      SetPlain(dtype, &tensor);
    else
      weights[tensor.weight].push_back(&tensor);
  }
  for (const auto& [name, parts] : weights) {
    const std::optional<MatrixForm> form = CommonForm(parts);
    for (TensorSource* part : parts) {
      if (!form) {
        SetPlain(dtype, part);
        continue;
      }
      SetCoding(*form, &part->spec);
      part->scale_type = form->scale_type;
    }
  }
}

std::vector<FormSummary> SummariseForms(const std::vector<TensorSource>& tensors) {
  std::map<std::string, std::vector<const TensorSource*>> weights;
  for (const TensorSource& tensor : tensors) {
    if (!tensor.weight.empty()) weights[tensor.weight].push_back(&tensor);
  }
  std::vector<FormSummary> rows;
  for (const TensorSource& tensor : tensors) {
    static const std::vector<const TensorSource*> kAlone;
    const auto weight = weights.find(tensor.weight);
    const std::string from = FromText(tensor, weight == weights.end() ? kAlone : weight->second);
    const std::string to = FormText(tensor.spec);
    auto row = std::find_if(rows.begin(), rows.end(),
                            [&](const FormSummary& r) { return r.from == from && r.to == to; });
    if (row == rows.end()) row = rows.insert(rows.end(), {from, to, 0, 0});
    ++row->tensors;
    uint64_t parameters = 1;  // no overflow: the pieces are in a file
    for (uint64_t extent : tensor.spec.shape) parameters *= extent;
    row->parameters += parameters;
  }
  return rows;
}

}  // namespace dsopt
