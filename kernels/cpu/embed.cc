// embed.cc - the first phase of a batch: residual rows from the embedding table, and the rotary angles.
#include <cmath>

#include "build.h"
#include "shared/defaults.h"

namespace dsopt_cpu {
namespace {

uint32_t PrepareEmbed(dsopt_be_program* p, const Phase&) { return Rows(p); }

// One row. The angle is a float product and its cosine is rounded once, as in the checkpoints' own code.
void RunEmbed(dsopt_be_program* p, const Phase& phase, uint32_t row, Scratch*) {
  const dsopt_embed_block& b = phase.block->u.embed;
  GatherRow(b.table, static_cast<uint64_t>(p->tokens[row]), dsopt_shared::ScaleOrOne(b.scale), ResidualRow(p, row));
  for (uint32_t r = 0; r < p->desc.rope_count; ++r) {
    const dsopt_rope& rope = p->desc.ropes[r];
    float* table = p->rope_table + p->rope_first[r] + uint64_t{row} * rope.dim;
    for (uint32_t i = 0; i < rope.dim / 2; ++i) {
      const float angle = static_cast<float>(p->positions[row]) * rope.inv_freq[i];
      table[i] = static_cast<float>(std::cos(static_cast<double>(angle))) * rope.scale;
      table[rope.dim / 2 + i] = static_cast<float>(std::sin(static_cast<double>(angle))) * rope.scale;
    }
  }
}

}  // namespace

void Builder::BuildEmbed(const dsopt_embed_block&) {
  Phase* phase = Add();
  phase->prepare = PrepareEmbed;
  phase->run = RunEmbed;
}

void Rotate(const dsopt_rope& rope, const float* cos_sin, float* v) {
  const uint32_t half = rope.dim / 2;
  const uint32_t first = rope.interleaved != 0 ? 2 : 1, apart = rope.interleaved != 0 ? 1 : half;
  for (uint32_t i = 0; i < half; ++i) {
    const float a = v[i * first], b = v[i * first + apart];
    v[i * first] = a * cos_sin[i] - b * cos_sin[half + i];
    v[i * first + apart] = b * cos_sin[i] + a * cos_sin[half + i];
  }
}

}  // namespace dsopt_cpu
