// Bytes times words with AVX2, by table: `vpshufb` looks up, by a nibble of each channel's word, the sum of those of 4 bytes
// whose bit is 1. It is 0 to 1020, after 512 was added if the bytes are signed, and takes two tables, of digits of 5 bits.
//
// The digits of a word's 8 nibbles add up in a byte, to 248 at most. Then they go to counters of 16 bits: one for the bytes as
// they are, even plus 256 times odd, and one for the odd ones. 256 words fill them. With all sums known,
//
//     u = 2 (sum of the bytes whose bit is 1) - (sum of the bytes)
#pragma once
#include "nibbles_avx2.h"
#include "reals.h"

JBNN_TARGET("avx2,fma")

namespace jbnn::bytes_avx2 {

using avx2::kNibbles;
using avx2::kPlaneChannels;

constexpr int kTable = 32;  // bytes: 16 of low digits, 16 of high ones

// The tables of 32 bytes, which are given as floats; returns their sum, less what was added to the tables' sums.
JBNN_INLINE int32_t make_tables(const float* x, int32_t added, uint8_t* tables) {
  const __m256i digit = _mm256_set1_epi16(31);
  const __m256i chosen[4] = {_mm256_set1_epi32(~0xffff), _mm256_set1_epi64x(~0xffffffffll), _mm256_setr_epi64x(0, -1, 0, -1),
                             _mm256_setr_epi64x(0, 0, -1, -1)};  // of 16 sums, those with the bit
  int32_t total = 0;
  for (int n = 0; n < kNibbles; n++) {
    __m256i sums = _mm256_set1_epi16(static_cast<int16_t>(added));
    for (int i = 0; i < 4; i++) {
      const int32_t byte = static_cast<int32_t>(x[4 * n + i]);
      total += byte;
      sums = _mm256_add_epi16(sums, _mm256_and_si256(_mm256_set1_epi16(static_cast<int16_t>(byte)), chosen[i]));
    }
    const __m256i digits = _mm256_packus_epi16(_mm256_and_si256(sums, digit), _mm256_srli_epi16(sums, 5));
    _mm256_storeu_si256((__m256i*)(tables + n * kTable), _mm256_permute4x64_epi64(digits, 0xd8));
  }
  return total + 2 * added * kNibbles;
}

// R rows of tables, `stride` apart, times a row of words; a register of sums is 32 channels, 4 of them make 32-bit room each.
template <int R>
JBNN_INLINE void add_tables(const uint8_t* tables, int64_t stride, const uint32_t* w, int64_t channels, int32_t* sums) {
  for (int64_t c = 0; c < channels; c += kPlaneChannels) {
    const avx2::Nibbles nibbles = avx2::nibbles_of(w + c, channels - c);
    __m256i digits[R][2];
#pragma GCC unroll 8
    for (int n = 0; n < kNibbles; n++) {
      __m256i plane = nibbles.plane[n];
      JBNN_KEEP(plane);
#pragma GCC unroll 4
      for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int d = 0; d < 2; d++) {
          const __m256i table = _mm256_broadcastsi128_si256(*(const __m128i*)(tables + r * stride + n * kTable + d * 16));
          const __m256i found = _mm256_shuffle_epi8(table, plane);
          digits[r][d] = n ? _mm256_add_epi8(digits[r][d], found) : found;
          JBNN_KEEP(digits[r][d]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
      for (int d = 0; d < 2; d++) {
        __m256i* const to = (__m256i*)(sums + r * kRealPanel + c) + 2 * d;
        _mm256_store_si256(to, _mm256_add_epi16(_mm256_load_si256(to), digits[r][d]));
        _mm256_store_si256(to + 1, _mm256_add_epi16(_mm256_load_si256(to + 1), _mm256_srli_epi16(digits[r][d], 8)));
      }
  }
}

// Adds 2 (the sums of 32 channels) to totals.
JBNN_INLINE void empty(int32_t* sums, int32_t* totals) {
  uint16_t part[4][16];
  std::memcpy(part, sums, sizeof part);
  std::memset(sums, 0, sizeof part);
  for (int c = 0; c < 16; c++) {
    const int32_t low = static_cast<uint16_t>(part[0][c] - 256 * part[1][c]),
                  high = static_cast<uint16_t>(part[2][c] - 256 * part[3][c]);
    totals[c] += 2 * (low + 32 * high);
    totals[16 + c] += 2 * (part[1][c] + 32 * part[3][c]);
  }
}

struct Path {
  static constexpr int kRows = 4;
  static constexpr int64_t kWords = 256;

  template <int R>
  static void add(const Reals& p, const float* rows, int64_t stride, int, const uint32_t* w, int64_t channels, int32_t* sums,
                  int32_t* less) {
    alignas(32) uint8_t tables[R][kNibbles * kTable];
    for (int r = 0; r < R; r++) less[r] += make_tables(rows + r * stride, p.real == Real::kInt8 ? 512 : 0, tables[r]);
    add_tables<R>(tables[0], kNibbles * kTable, w, channels, sums);
  }

  template <int R>
  static void empty(int64_t channels, int32_t* sums, int32_t* totals) {
    for (int r = 0; r < R; r++)
      for (int64_t c = 0; c < channels; c += kPlaneChannels)
        bytes_avx2::empty(sums + r * kRealPanel + c, totals + r * kRealPanel + c);
  }
};

}  // namespace jbnn::bytes_avx2

JBNN_TARGET_END
