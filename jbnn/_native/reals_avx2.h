// Reals times words with AVX2, by table: the 8 sums of 3 reals with either sign fill a register, and `vpermps` or `vpermd` looks
// up those of 8 channels at once, by the low three bits of each channel's word.
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

JBNN_INLINE __m256 look_up(__m256 table, __m256i bits) { return _mm256_permutevar8x32_ps(table, bits); }
JBNN_INLINE __m256i look_up(__m256i table, __m256i bits) { return _mm256_permutevar8x32_epi32(table, bits); }
JBNN_INLINE __m256 plus(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
JBNN_INLINE __m256i plus(__m256i a, __m256i b) { return _mm256_add_epi32(a, b); }
JBNN_INLINE __m256 load(const float* from) { return _mm256_load_ps(from); }
JBNN_INLINE __m256i load(const int32_t* from) { return _mm256_load_si256((const __m256i*)from); }
JBNN_INLINE void store(float* to, __m256 value) { _mm256_store_ps(to, value); }
JBNN_INLINE void store(int32_t* to, __m256i value) { _mm256_store_si256((__m256i*)to, value); }
JBNN_INLINE void convert(__m256 from, __m256& to) { to = from; }
JBNN_INLINE void convert(__m256 from, __m256i& to) { to = _mm256_cvtps_epi32(from); }

JBNN_INLINE __m256i words_of(const uint32_t* w, int64_t there) {
  if (there >= kLanes) return _mm256_loadu_si256((const __m256i*)w);
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_maskload_epi32((const int*)w, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(there)), lanes));
}

template <class Sum, int R, int Tables>
JBNN_INLINE void add_tables(const float* rows, int64_t stride, const uint32_t* w, int64_t channels, Sum* sums) {
  using Vector = decltype(load(sums));
  Vector table[Tables][R];
#pragma GCC unroll 11
  for (int i = 0; i < Tables; i++)
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) convert(table_of(rows + r * stride + i * kDigit, std::min(kDigit, 32 - i * kDigit)), table[i][r]);
  for (int64_t c = 0; c < channels; c += kLanes) {
    const __m256i words = words_of(w + c, channels - c);
    Vector some[R];
#pragma GCC unroll 11
    for (int i = 0; i < Tables; i++) {
      __m256i bits = i ? _mm256_srli_epi32(words, kDigit * i) : words;
      JBNN_KEEP(bits);
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) {
        Vector loaded = table[i][r];
        JBNN_KEEP(loaded);
        some[r] = i ? plus(some[r], look_up(loaded, bits)) : look_up(loaded, bits);
        JBNN_KEEP(some[r]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) store(sums + r * kRealPanel + c, plus(load(sums + r * kRealPanel + c), some[r]));
  }
}

struct Path {
  static constexpr int kRows = 4;
  static constexpr int64_t kWords = 0;

  template <class Sum, int R>
  static void add(const Reals&, const float* rows, int64_t stride, int reals, const uint32_t* w, int64_t channels, Sum* sums,
                  Sum*) {
    switch ((reals - 1) / kDigit) {
      case 0: return add_tables<Sum, R, 1>(rows, stride, w, channels, sums);
      case 1: return add_tables<Sum, R, 2>(rows, stride, w, channels, sums);
      case 2:
      case 3:
      case 4: return add_tables<Sum, R, 5>(rows, stride, w, channels, sums);
      default: return add_tables<Sum, R, kTables>(rows, stride, w, channels, sums);
    }
  }
};

}  // namespace jbnn::reals_avx2

JBNN_TARGET_END
