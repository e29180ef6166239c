// metadata.h - ModelSpec <-> the flatbuffer of the metadata block. Parsing checks the structure and every number.
#ifndef DSOPT_FORMAT_METADATA_H_
#define DSOPT_FORMAT_METADATA_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "spec/model_spec.h"

namespace dsopt {

// The size depends on the number of tensors and chunks, not on their offsets and checksums. Tensors are sorted.
Result<std::vector<uint8_t>> SerializeMetadata(const ModelSpec& spec);

// bytes: the decoded block of a file of file_bytes bytes whose chunks start at or after first_chunk_offset. Structure
// through flatbuffers' verifier, then verify.h. Fills everything but format_major/minor, file_bytes, fingerprint.
Result<ModelSpec> ParseMetadata(std::span<const uint8_t> bytes, uint64_t file_bytes, uint64_t first_chunk_offset);

}  // namespace dsopt
#endif  // DSOPT_FORMAT_METADATA_H_
