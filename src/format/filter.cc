#include "format/filter.h"

#include <cstring>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace dsopt {

void SplitPlanes(const uint8_t* raw, size_t count, uint8_t* low, uint8_t* high) {
  size_t i = 0;
#if defined(__x86_64__)  // SSE2 is part of the instruction set
  const __m128i low_byte = _mm_set1_epi16(0xFF);
  for (; i + 16 <= count; i += 16) {
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(raw + 2 * i));
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(raw + 2 * i + 16));
    const __m128i ra = _mm_or_si128(_mm_slli_epi16(a, 1), _mm_srli_epi16(a, 15));
    const __m128i rb = _mm_or_si128(_mm_slli_epi16(b, 1), _mm_srli_epi16(b, 15));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(low + i),
                     _mm_packus_epi16(_mm_and_si128(ra, low_byte), _mm_and_si128(rb, low_byte)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(high + i),
                     _mm_packus_epi16(_mm_srli_epi16(ra, 8), _mm_srli_epi16(rb, 8)));
  }
#endif
  for (; i < count; ++i) {
    uint16_t v;
    std::memcpy(&v, raw + 2 * i, 2);
    const unsigned rotated = (static_cast<unsigned>(v) << 1) | (v >> 15);
    low[i] = static_cast<uint8_t>(rotated);
    high[i] = static_cast<uint8_t>(rotated >> 8);
  }
}

void JoinPlanes(const uint8_t* low, const uint8_t* high, size_t count, uint8_t* raw) {
  size_t i = 0;
#if defined(__x86_64__)
  for (; i + 16 <= count; i += 16) {
    const __m128i l = _mm_loadu_si128(reinterpret_cast<const __m128i*>(low + i));
    const __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(high + i));
    const __m128i a = _mm_unpacklo_epi8(l, h), b = _mm_unpackhi_epi8(l, h);
    const __m128i ra = _mm_or_si128(_mm_srli_epi16(a, 1), _mm_slli_epi16(a, 15));
    const __m128i rb = _mm_or_si128(_mm_srli_epi16(b, 1), _mm_slli_epi16(b, 15));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(raw + 2 * i), ra);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(raw + 2 * i + 16), rb);
  }
#endif
  for (; i < count; ++i) {
    const unsigned rotated = low[i] | static_cast<unsigned>(high[i]) << 8;
    const uint16_t v = static_cast<uint16_t>((rotated >> 1) | (rotated << 15));
    std::memcpy(raw + 2 * i, &v, 2);
  }
}

}  // namespace dsopt
