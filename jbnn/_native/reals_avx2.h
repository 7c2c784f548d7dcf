// Reals times words with AVX2, by table: the 8 sums of 3 reals with either sign fill a register, and `vpermps` looks up those of
// 8 channels at once, by the low three bits of each channel's word.
//
// Per word and 8 channels that is 11 look-ups and 11 additions a row: 256 products in 22 instructions, where multiply-adds take
// 32. A table is loaded before it is used: the instruction runs at half the rate with a table in memory.
#pragma once
#include <immintrin.h>

#include "reals.h"
#include "target.h"

JBNN_TARGET("avx2,fma")

namespace jbnn::reals_avx2 {

constexpr int kLanes = 8, kDigit = 3, kTables = 11;

// The sums of `reals` reals, three at most: that of bits b, 1 for +, is in place b.
JBNN_INLINE __m256 table_of(const float* x, int reals) {
  const __m256 sign[kDigit] = {_mm256_setr_ps(-1, 1, -1, 1, -1, 1, -1, 1), _mm256_setr_ps(-1, -1, 1, 1, -1, -1, 1, 1),
                               _mm256_setr_ps(-1, -1, -1, -1, 1, 1, 1, 1)};
  __m256 sums = _mm256_mul_ps(_mm256_set1_ps(x[0]), sign[0]);
#pragma GCC unroll 2
  for (int i = 1; i < reals; i++) sums = _mm256_fmadd_ps(_mm256_set1_ps(x[i]), sign[i], sums);
  return sums;
}

JBNN_INLINE __m256i words_of(const uint32_t* w, int64_t there) {
  if (there >= kLanes) return _mm256_loadu_si256((const __m256i*)w);
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_maskload_epi32((const int*)w, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(there)), lanes));
}

template <int R, int Tables>
JBNN_INLINE void add_tables(const float* rows, int64_t stride, const uint32_t* w, int64_t channels, float* sums) {
  __m256 table[Tables][R];
#pragma GCC unroll 11
  for (int i = 0; i < Tables; i++)
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) table[i][r] = table_of(rows + r * stride + i * kDigit, std::min(kDigit, 32 - i * kDigit));
  for (int64_t c = 0; c < channels; c += kLanes) {
    const __m256i words = words_of(w + c, channels - c);
    __m256 some[R];
#pragma GCC unroll 11
    for (int i = 0; i < Tables; i++) {
      __m256i bits = i ? _mm256_srli_epi32(words, kDigit * i) : words;
      JBNN_KEEP(bits);
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) {
        __m256 loaded = table[i][r];
        JBNN_KEEP(loaded);
        const __m256 found = _mm256_permutevar8x32_ps(loaded, bits);
        some[r] = i ? _mm256_add_ps(some[r], found) : found;
        JBNN_KEEP(some[r]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
      float* const to = sums + r * kRealPanel + c;
      _mm256_store_ps(to, _mm256_add_ps(_mm256_load_ps(to), some[r]));
    }
  }
}

struct Path {
  static constexpr int kRows = 4;
  static constexpr int64_t kWords = 0;

  template <int R>
  static void add(const Reals&, const float* rows, int64_t stride, int reals, const uint32_t* w, int64_t channels, float* sums,
                  float*) {
    switch ((reals - 1) / kDigit) {
      case 0: return add_tables<R, 1>(rows, stride, w, channels, sums);
      case 1: return add_tables<R, 2>(rows, stride, w, channels, sums);
      case 2:
      case 3:
      case 4: return add_tables<R, 5>(rows, stride, w, channels, sums);
      default: return add_tables<R, kTables>(rows, stride, w, channels, sums);
    }
  }
};

}  // namespace jbnn::reals_avx2

JBNN_TARGET_END
