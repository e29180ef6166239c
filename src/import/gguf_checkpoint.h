// gguf_checkpoint.h - a model in one GGUF file or in several that follow each other, and its tensors as
// sources.
#ifndef DSOPT_IMPORT_GGUF_CHECKPOINT_H_
#define DSOPT_IMPORT_GGUF_CHECKPOINT_H_

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "import/gguf_reader.h"
#include "import/matrix_source.h"

namespace dsopt {

// [thread-compatible]
class GgufCheckpoint {
 public:
  // path: the only file, or "...-00001-of-00003.gguf", whose others are looked for beside it.
  static Result<GgufCheckpoint> Open(const std::filesystem::path& path);
  static Result<GgufCheckpoint> FromSource(std::unique_ptr<Source> source);

  const GgufHeader& header() const { return header_; }  // metadata of the first file, tensors of all
  const GgufTensor* Find(std::string_view name) const { return FindGgufTensor(header_, name); }
  const std::string& name() const { return files_[0]->name(); }
  // Bytes [offset, offset + dst.size()) of a tensor.
  Status Read(const GgufTensor& tensor, uint64_t offset, std::span<uint8_t> dst) const;

 private:
  Status AddFile(std::unique_ptr<Source> source);
  Status AddOthers(const std::filesystem::path& first);

  std::vector<std::unique_ptr<Source>> files_;
  GgufHeader header_;
};

// A tensor, its dimensions but the last taken together, as a source of this shape, which must have as many
// elements. head_rows other than 0: rows of each head_rows are in llama.cpp's order, pairs (2i, 2i + 1) where
// Hugging Face has (i, i + head_rows / 2), and come out in the latter. DSOPT_E_UNSUPPORTED: a type that has no
// form.
Result<std::unique_ptr<MatrixSource>> OpenGgufMatrix(const GgufCheckpoint& checkpoint, const GgufTensor& tensor,
                                                     const std::vector<uint64_t>& shape, uint64_t head_rows);

// kv_b [heads (nope + v), latent] from its two halves: k_b [heads latent, nope], each head transposed, and v_b
// [heads v, latent]. Plain.
std::unique_ptr<MatrixSource> JoinLatentUp(std::unique_ptr<MatrixSource> k_b, std::unique_ptr<MatrixSource> v_b,
                                           uint64_t heads);

}  // namespace dsopt
#endif  // DSOPT_IMPORT_GGUF_CHECKPOINT_H_
