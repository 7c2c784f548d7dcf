// Reals times words with AVX-512, by table: the 16 sums of 4 reals with either sign fill a register, and `vpermps` looks up those
// of 16 channels at once, by the low four bits of each channel's word.
//
// Per word and 16 channels that is 8 look-ups and 8 additions a row, and 7 shifts for all rows: 512 products in 16 instructions,
// where multiply-adds take 32. The tables of three rows fill 24 registers, so that the loop over channels reads only words.
#pragma once
#include <immintrin.h>

#include "reals.h"
#include "target.h"

JBNN_TARGET("avx512f,avx512bw,avx512dq,avx512vl,fma")

namespace jbnn::reals_avx512 {

constexpr int kLanes = 16, kDigit = 4, kTables = 32 / kDigit;

// The sums of 4 reals: that of bits b, 1 for +, is in place b.
JBNN_INLINE __m512 table_of(const float* x) {
  __m512 sums = _mm512_setzero_ps();
#pragma GCC unroll 4
  for (int i = 0; i < kDigit; i++) {
    const __mmask16 plus[kDigit] = {0xaaaa, 0xcccc, 0xf0f0, 0xff00};
    const __m512 sign = _mm512_mask_blend_ps(plus[i], _mm512_set1_ps(-1), _mm512_set1_ps(1));
    sums = i ? _mm512_fmadd_ps(_mm512_set1_ps(x[i]), sign, sums) : _mm512_mul_ps(_mm512_set1_ps(x[i]), sign);
  }
  return sums;
}

// Sums have room for whole registers.
template <int R, int Tables>
JBNN_INLINE void add_tables(const float* rows, int64_t stride, const uint32_t* w, int64_t channels, float* sums) {
  __m512 table[R][Tables];
#pragma GCC unroll 3
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int i = 0; i < Tables; i++) table[r][i] = table_of(rows + r * stride + i * kDigit);
  for (int64_t c = 0; c < channels; c += kLanes) {
    const int64_t left = channels - c;
    const __m512i words = _mm512_maskz_loadu_epi32(left < kLanes ? (1u << left) - 1 : 0xffff, w + c);
    __m512 some[R];
#pragma GCC unroll 8
    for (int i = 0; i < Tables; i++) {
      const __m512i bits = i ? _mm512_srli_epi32(words, kDigit * i) : words;
#pragma GCC unroll 3
      for (int r = 0; r < R; r++) {
        const __m512 found = _mm512_permutexvar_ps(bits, table[r][i]);
        some[r] = i ? _mm512_add_ps(some[r], found) : found;
      }
    }
#pragma GCC unroll 3
    for (int r = 0; r < R; r++) {
      float* const to = sums + r * kRealPanel + c;
      _mm512_store_ps(to, _mm512_add_ps(_mm512_load_ps(to), some[r]));
    }
  }
}

struct Path {
  static constexpr int kRows = 3;
  static constexpr int64_t kWords = 0;

  template <int R>
  static void add(const Reals&, const float* rows, int64_t stride, int reals, const uint32_t* w, int64_t channels, float* sums,
                  float*) {
    switch ((reals - 1) / kDigit) {
      case 0: return add_tables<R, 1>(rows, stride, w, channels, sums);
      case 1: return add_tables<R, 2>(rows, stride, w, channels, sums);
      case 2:
      case 3: return add_tables<R, 4>(rows, stride, w, channels, sums);
      default: return add_tables<R, kTables>(rows, stride, w, channels, sums);
    }
  }
};

}  // namespace jbnn::reals_avx512

JBNN_TARGET_END
