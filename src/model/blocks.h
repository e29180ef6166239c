// blocks.h - one function per kind of block: which weights it needs, from which file tensors, and its
// descriptor. The same calls first declare the weights (before loading) and later record the blocks with the
// packed weights.
#ifndef DSOPT_MODEL_BLOCKS_H_
#define DSOPT_MODEL_BLOCKS_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/weights.h"

namespace dsopt {

struct Recording {
  std::vector<WeightDeclaration> declarations;  // in the order of use
  std::vector<dsopt_block> blocks;              // weights NULL while declaring
  std::vector<RopeSpec> ropes;                  // distinct ones; blocks refer to them by index
};

// [thread-compatible] config, pages and weights must outlive the builder.
class BlockBuilder {
 public:
  // weights NULL: declare only. Else one packed weight per declaration, in the order of an earlier declaration.
  BlockBuilder(const ConfigSpec& config, const PageLayout& pages, const std::vector<Weight>* weights)
      : config_(config), pages_(pages), weights_(weights) {}

  void Embed();
  void BeginLayer(uint32_t layer) { layer_ = layer; }
  void Attention(const LayerKind& kind);
  void Mla(const LayerKind& kind);
  void Mlp(const LayerKind& kind);
  void Moe(const LayerKind& kind);
  void Head();

  Recording Take() { return std::move(recording_); }

 private:
  // A file tensor stacked by rows into a matrix.
  struct Rows {
    const char* tensor;  // suffix of the canonical name, without the layer
    uint64_t rows;
  };
  const dsopt_be_weight* Use(WeightDeclaration declaration);
  // [batch, sum of rows, cols]; each part is a tensor [batch, rows, cols], or [rows, cols] when not stacked.
  const dsopt_be_weight* Fused(dsopt_weight_kind kind, const char* name, bool stacked, uint64_t batch,
                               uint64_t cols, std::initializer_list<Rows> parts);
  const dsopt_be_weight* Matrix(const char* tensor, uint64_t rows, uint64_t cols);
  const dsopt_be_weight* Vector(const char* tensor, uint64_t count);
  const dsopt_be_weight* FusedVector(const char* name, std::initializer_list<Rows> parts);
  // Rows [first, first + rows) of every head of a tensor [heads * head_rows, cols].
  const dsopt_be_weight* HeadRows(dsopt_weight_kind kind, const char* name, const char* tensor, uint64_t heads,
                                  uint64_t head_rows, uint64_t first, uint64_t rows, uint64_t cols);
  uint32_t RopeIndex(const RopeSpec& rope);
  dsopt_block& Append(dsopt_block_kind kind);

  const ConfigSpec& config_;
  const PageLayout& pages_;
  const std::vector<Weight>* weights_;
  uint32_t layer_ = 0;
  const dsopt_be_weight* embedding_ = nullptr;
  Recording recording_;
};

}  // namespace dsopt
#endif  // DSOPT_MODEL_BLOCKS_H_
