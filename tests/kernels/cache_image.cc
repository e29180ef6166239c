// cache_image.cc - see cache_image.h.
#include "cache_image.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "harness.h"

namespace dsopt::kernel_test {
namespace {

constexpr uint64_t kPositions = 64;  // of a page

double HalfValue(uint32_t bits) {
  const int exponent = static_cast<int>(bits >> 10 & 31);
  const double fraction = bits & 1023;
  REQUIRE(exponent != 31);
  const double value = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return (bits & 0x8000) != 0 ? -value : value;
}

double Fp8Value(uint8_t code) {
  const int exponent = code >> 3 & 15;
  const double fraction = code & 7;
  REQUIRE((code & 0x7f) != 0x7f);
  const double value = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return (code & 0x80) != 0 ? -value : value;
}

uint64_t CodeBytes(dsopt_dtype type, uint64_t values) { return type == DSOPT_I4 ? values / 2 : values; }
uint64_t WordBytes(dsopt_dtype type, uint64_t values) { return type == DSOPT_I4 ? (values + 31) / 32 * 4 : 4; }

// Half a step, and what scale and lowest value lose in their own roundings.
CachedVector Decode(dsopt_dtype type, uint64_t values, const uint8_t* codes, const uint8_t* words) {
  CachedVector out;
  for (uint64_t i = 0; i < values; ++i) {
    uint32_t word;
    std::memcpy(&word, words + (type == DSOPT_I4 ? i / 32 * 4 : 0), 4);
    if (type == DSOPT_I4) {
      const double scale = HalfValue(word & 0xffff), lowest = HalfValue(word >> 16);
      out.values.push_back(lowest + scale * (codes[i / 2] >> (i % 2 * 4) & 15));
      out.allowed.push_back(scale / 2 + std::ldexp(std::fabs(lowest) + 15 * scale, -11) +
                            std::ldexp(16.0, -25));
      continue;
    }
    float single;
    std::memcpy(&single, &word, 4);
    const double scale = static_cast<double>(single);
    REQUIRE(scale >= 0.0);
    const double code = type == DSOPT_I8 ? static_cast<int8_t>(codes[i]) : Fp8Value(codes[i]);
    if (type == DSOPT_I8) REQUIRE(std::fabs(code) <= 127);
    const double half_step =
        type == DSOPT_I8 ? 0.5 : std::ldexp(1.0, std::max(std::ilogb(std::max(std::fabs(code), 1e-9)), -6) - 4);
    out.values.push_back(code * scale);
    out.allowed.push_back(half_step * scale * (1 + 1e-5));
  }
  return out;
}

}  // namespace

uint64_t CacheVectorBytes(dsopt_dtype type, uint64_t values) {
  if (type == DSOPT_F32) return values * 4;
  if (type == DSOPT_BF16) return values * 2;
  return CodeBytes(type, values) + WordBytes(type, values);
}

CacheImage ReadCache(const TestProgram& program, uint32_t sequence) {
  const dsopt_program_desc& d = program.desc;
  CacheImage image(d.block_count);
  std::vector<uint8_t> page(d.page_bytes);
  for (uint64_t p = 0; p < program.Length(sequence); ++p) {
    if (p % kPositions == 0) {
      const auto index = static_cast<uint32_t>(program.Pages(sequence)[p / kPositions]);
      REQUIRE(program.model->device->api->program_read_page(program.handle, index, page.data()) == DSOPT_OK);
    }
    const uint64_t slot = p % kPositions;
    for (uint32_t b = 0; b < d.block_count; ++b) {
      const dsopt_block& block = program.model->blocks[b];
      CachedPosition position;
      if (block.kind == DSOPT_BLOCK_ATTENTION) {
        const dsopt_attention_block& a = block.u.attention;
        const uint64_t codes = CodeBytes(d.kv_dtype, a.head_dim), words = WordBytes(d.kv_dtype, a.head_dim);
        const uint8_t* layer = page.data() + a.cache_offset;
        const uint8_t* first_word = layer + 2 * a.kv_heads * kPositions * codes;
        for (uint64_t v = 0; v < 2 * a.kv_heads; ++v) {  // K of each head, V of each head
          const uint64_t at = v * kPositions + slot;
          position.vectors.push_back(
              Decode(d.kv_dtype, a.head_dim, layer + at * codes, first_word + at * words));
        }
      } else if (block.kind == DSOPT_BLOCK_MLA) {
        const dsopt_mla_block& a = block.u.mla;
        const uint64_t latent_codes = CodeBytes(d.kv_dtype, a.latent),
                       latent_words = WordBytes(d.kv_dtype, a.latent);
        const uint64_t code_row = latent_codes + CodeBytes(d.kv_dtype, a.rope_dim);
        const uint64_t word_row = latent_words + WordBytes(d.kv_dtype, a.rope_dim);
        const uint8_t* codes = page.data() + a.cache_offset + slot * code_row;
        const uint8_t* words = page.data() + a.cache_offset + kPositions * code_row + slot * word_row;
        position.vectors.push_back(Decode(d.kv_dtype, a.latent, codes, words));
        position.vectors.push_back(Decode(d.kv_dtype, a.rope_dim, codes + latent_codes, words + latent_words));
      } else {
        continue;
      }
      image[b].push_back(std::move(position));
    }
  }
  return image;
}

}  // namespace dsopt::kernel_test
