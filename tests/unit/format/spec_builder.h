// spec_builder.h - a small model file for the tests of the format: every field set, every element type.
#ifndef DSOPT_TESTS_UNIT_FORMAT_SPEC_BUILDER_H_
#define DSOPT_TESTS_UNIT_FORMAT_SPEC_BUILDER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "format/source.h"
#include "format/writer.h"
#include "spec/model_spec.h"

namespace dsopt::testing {

ModelSpec SmallSpec();
// Pseudo-random bytes of all stored tensors in declaration order; 16-bit elements look like trained weights.
std::vector<std::vector<uint8_t>> SmallData(const ModelSpec& spec, uint32_t seed);
std::vector<uint8_t> WriteFile(const ModelSpec& spec, const std::vector<std::vector<uint8_t>>& data,
                               const WriterOptions& options);
// A file whose metadata says `spec` as it is, unchecked, and that ends with payload_bytes zeros.
std::vector<uint8_t> RawFile(const ModelSpec& spec, size_t payload_bytes);
// The same of any bytes in place of the flatbuffer, and of any bytes in place of its zstd frame.
std::vector<uint8_t> WrapMetadata(std::span<const uint8_t> metadata, size_t payload_bytes);
std::vector<uint8_t> WrapFrame(std::span<const uint8_t> frame, size_t meta_raw, size_t payload_bytes);
// Gives a preamble that was changed a matching checksum.
void FixPreamble(std::vector<uint8_t>* file);
// The metadata and every chunk; the first failure.
Status OpenAndReadAll(Source& source, bool verify);
Status OpenBytes(std::span<const uint8_t> file);

}  // namespace dsopt::testing
#endif  // DSOPT_TESTS_UNIT_FORMAT_SPEC_BUILDER_H_
