// shapes.h - the dimensions of well-known models, and .dsopt files of such shapes whose weights are random numbers
// made while loading. For measuring; the text they produce is noise.
#ifndef DSOPT_TOOLS_SHAPES_H_
#define DSOPT_TOOLS_SHAPES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "quant/policy.h"
#include "spec/model_spec.h"

namespace dsopt::tools {

// Names that MakeShape knows.
std::vector<std::string> ShapeNames();

// The configuration and the tensors (all synthetic) of a shape. layers 0: all of them. DSOPT_E_NOT_FOUND: no such
// shape; DSOPT_E_INVALID_ARGUMENT: more layers than it has.
Result<ModelSpec> MakeShape(std::string_view name, uint32_t layers, dsopt_dtype dtype);

// Gives the tensors the encodings of a policy.
void EncodeShape(const WeightsRequest& weights, ModelSpec* spec);

// The file, a few kilobytes: metadata only.
Result<std::vector<uint8_t>> ShapeFile(const ModelSpec& spec);

// Bytes of all tensors, with the scales and offsets of encoded ones; lossless12 at 12 1/16 bits.
uint64_t WeightBytes(const ModelSpec& spec);

// Bytes that one decode step of `batch` sequences must read: every weight once, of the experts those that `batch`
// independent choices are expected to touch, the embedding table only as its head or as `batch` rows.
double StepWeightBytes(const ModelSpec& spec, uint32_t batch);

// Bytes of the cache that one step of one sequence reads when it sees `context` positions.
double StepCacheBytes(const ModelSpec& spec, uint32_t context, dsopt_dtype kv_dtype);

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_SHAPES_H_
