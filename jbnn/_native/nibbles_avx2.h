// Words of 32 output channels as planes of nibbles, whose bytes are what `vpshufb` looks up.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "target.h"
#include "units.h"

JBNN_TARGET("avx2")

namespace jbnn::avx2 {

constexpr int kNibbles = 8;         // of a word
constexpr int kPlaneChannels = 32;  // a byte each: byte 2i is channel i, byte 2i + 1 is channel 16 + i

struct Nibbles {
  __m256i plane[kNibbles];
};

JBNN_INLINE Nibbles nibbles_of(const uint32_t* w) {
  const __m256i low = _mm256_set1_epi8(15);
  const __m256i by_byte = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  const auto words = [&](int c) {  // 4 and, 8 further on, 4 more
    const __m128i some = _mm_loadu_si128((const __m128i*)(w + c)), more = _mm_loadu_si128((const __m128i*)(w + c + 8));
    return _mm256_shuffle_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(some), more, 1), by_byte);
  };
  const __m256i w0 = words(0), w4 = words(4), w16 = words(16), w20 = words(20);
  const __m256i a = _mm256_unpacklo_epi8(w0, w16), b = _mm256_unpackhi_epi8(w0, w16);
  const __m256i c = _mm256_unpacklo_epi8(w4, w20), d = _mm256_unpackhi_epi8(w4, w20);
  const __m256i bytes[4] = {_mm256_unpacklo_epi64(a, c), _mm256_unpackhi_epi64(a, c), _mm256_unpacklo_epi64(b, d),
                            _mm256_unpackhi_epi64(b, d)};
  Nibbles nibbles;
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    nibbles.plane[2 * i] = _mm256_and_si256(bytes[i], low);
    nibbles.plane[2 * i + 1] = _mm256_and_si256(_mm256_srli_epi16(bytes[i], 4), low);
  }
  return nibbles;
}

// Of fewer than 32 channels, zeros for the others.
JBNN_INLINE Nibbles nibbles_of(const uint32_t* w, int64_t channels) {
  if (channels >= kPlaneChannels) return nibbles_of(w);
  alignas(32) uint32_t some[kPlaneChannels] = {};
  for (int64_t c = 0; c < channels; c++) some[c] = w[c];
  return nibbles_of(some);
}

}  // namespace jbnn::avx2

JBNN_TARGET_END
