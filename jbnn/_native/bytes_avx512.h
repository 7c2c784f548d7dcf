// Bytes times words with AVX-512, by table: `vpermw` looks up 16 bits in 32 places at once.
//
// A channel's word lies in two of those places, its low half and its high half; so half a table holds the 16 sums of 4 bytes of
// the low half with either sign, and the other half those of the high half. A bit of the index says which, and what is added up
// stays where it is: 128 products in a look-up and an addition, where bytes in registers of 32 bits take 64.
//
// A look-up is 1020 at most, so that 8 words of 4 look-ups fill 16 bits; then `vpmaddwd` adds the halves of each channel.
#pragma once
#include "reals_avx512.h"

JBNN_TARGET("avx512f,avx512bw,avx512dq,avx512vl,fma")

namespace jbnn::bytes_avx512 {

using reals_avx512::kDigit;
using reals_avx512::kLanes;
using reals_avx512::table_of;

// Of 4 bytes of the low half and 4 of the high half, both given as floats.
JBNN_INLINE __m512i halves_of(const float* x) {
  const __m256i low = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(table_of(x)));
  const __m256i high = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(table_of(x + 16)));
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

template <int R, int Tables>
JBNN_INLINE void add_tables(const float* rows, int64_t stride, const uint32_t* w, int64_t channels, int32_t* sums) {
  const __m512i nibble = _mm512_set1_epi32(0x000f000f), half = _mm512_set1_epi32(0x00100000);
  __m512i table[R][Tables];
#pragma GCC unroll 4
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int i = 0; i < Tables; i++) table[r][i] = halves_of(rows + r * stride + i * kDigit);
  for (int64_t c = 0; c < channels; c += kLanes) {
    const int64_t left = channels - c;
    const __m512i words = _mm512_maskz_loadu_epi32(left < kLanes ? (1u << left) - 1 : 0xffff, w + c);
    __m512i some[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) some[r] = _mm512_load_si512(sums + r * kRealPanel + c);
#pragma GCC unroll 4
    for (int i = 0; i < Tables; i++) {
      const __m512i bits = i ? _mm512_srli_epi32(words, kDigit * i) : words;
      const __m512i index = _mm512_ternarylogic_epi32(bits, nibble, half, 0xea);  // (bits & nibble) | half
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) some[r] = _mm512_add_epi16(some[r], _mm512_permutexvar_epi16(index, table[r][i]));
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) _mm512_store_si512(sums + r * kRealPanel + c, some[r]);
  }
}

struct Path {
  static constexpr int kRows = 4;
  static constexpr int64_t kWords = 8;

  template <int R>
  static void add(const Reals&, const float* rows, int64_t stride, int reals, const uint32_t* w, int64_t channels, int32_t* sums,
                  int32_t*) {
    if (reals <= kDigit) return add_tables<R, 1>(rows, stride, w, channels, sums);
    if (reals <= 2 * kDigit) return add_tables<R, 2>(rows, stride, w, channels, sums);
    add_tables<R, 4>(rows, stride, w, channels, sums);
  }

  template <int R>
  static void empty(int64_t channels, int32_t* sums, int32_t* totals) {
    for (int r = 0; r < R; r++)
      for (int64_t c = r * kRealPanel; c < r * kRealPanel + channels; c += kLanes) {
        const __m512i both = _mm512_madd_epi16(_mm512_load_si512(sums + c), _mm512_set1_epi16(1));
        _mm512_store_si512(totals + c, _mm512_add_epi32(_mm512_load_si512(totals + c), both));
        _mm512_store_si512(sums + c, _mm512_setzero_si512());
      }
  }
};

}  // namespace jbnn::bytes_avx512

JBNN_TARGET_END
