// metadata.h - ModelSpec <-> the flatbuffer of the metadata block.
#ifndef DSOPT_FORMAT_METADATA_H_
#define DSOPT_FORMAT_METADATA_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "spec/model_spec.h"

namespace dsopt {

// spec.tensors must be sorted by name; nothing else is checked. The size does not depend on the offsets, stored
// sizes and checksums of the chunks.
std::vector<uint8_t> SerializeMetadata(const ModelSpec& spec);

// bytes: the decoded block, aligned to 8, of a file of file_bytes bytes whose chunks lie at or after
// data_begin. First the structure (flatbuffers' verifier, counts and lengths before anything is copied,
// enumerations), then verify.h. Fills everything but format_major, format_minor, file_bytes and fingerprint.
Result<ModelSpec> ParseMetadata(std::span<const uint8_t> bytes, uint64_t data_begin, uint64_t file_bytes);

}  // namespace dsopt
#endif  // DSOPT_FORMAT_METADATA_H_
