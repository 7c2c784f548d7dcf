// Counting with AVX2, which has no instruction for it: by table, two windows a look-up.
//
// For a nibble a of an image and b of a kernel, f = |a & b| - floor(|b| / 2) + (2, 1, 1, 0, 0)[|a|] is 0, 1 or 2, and
//
//     popcount(a ^ b) = 4 - odd(a) + odd(b) - 2 f(a, b)
//
// where odd is 1 for a nibble with an odd number of ones. Sums of odd(a) belong to the window, and of odd(b) to the channel.
// What is left to look up takes two bits, so that one table of 16 bytes holds f of two nibbles a of two windows, each in four
// bits of a byte; `vpshufb` looks up the b of 32 channels at once, and 7 results add up without a carry.
//
// Then their sum s is added to two byte counters, B += s and A += s >> 4, the shift being of 16 bits, unmasked: the totals of
// the four fields of 16 bits follow from A and B modulo 256, and none reaches 256 in 14 words, or 112 nibbles.
#pragma once
#include <immintrin.h>

#include <array>

#include "buffer.h"
#include "leave.h"
#include "nibbles_avx2.h"

JBNN_TARGET("avx2,bmi,bmi2,popcnt")

namespace jbnn::pairs_avx2 {

using avx2::kNibbles;

constexpr int kGroup = 7, kChunk = 14;  // nibbles, words
constexpr int kLanes = avx2::kPlaneChannels;

// [nibble of the first window][of the second][of the channel]; the first window's f is in the high bits.
constexpr std::array<uint8_t, 4096> make_table() {
  std::array<uint8_t, 4096> table{};
  for (int i = 0; i < 4096; i++) {
    const int a[2] = {i >> 8, i >> 4 & 15}, b = i & 15;
    int f[2] = {};
    for (int k = 0; k < 2; k++) {
      int ones_a = 0, ones_b = 0, ones_both = 0;
      for (int bit = 1; bit < 16; bit *= 2)
        ones_a += (a[k] & bit) != 0, ones_b += (b & bit) != 0, ones_both += (a[k] & b & bit) != 0;
      f[k] = ones_both - ones_b / 2 + (ones_a == 0 ? 2 : ones_a < 3 ? 1 : 0);
    }
    table[i] = static_cast<uint8_t>(16 * f[0] + f[1]);
  }
  return table;
}
alignas(64) constexpr std::array<uint8_t, 4096> kTable = make_table();

JBNN_INLINE __m256i odd_nibbles(__m256i nibbles) {
  const __m128i odd = _mm_setr_epi8(0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0);
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(odd), nibbles);
}

JBNN_INLINE int32_t sum_of_bytes(__m256i bytes) {
  const __m256i quarters = _mm256_sad_epu8(bytes, _mm256_setzero_si256());
  const __m128i halves = _mm_add_epi64(_mm256_castsi256_si128(quarters), _mm256_extracti128_si256(quarters, 1));
  return static_cast<int32_t>(_mm_cvtsi128_si64(halves) + _mm_extract_epi64(halves, 1));
}

// Copies words, by eights where the image goes on for so long: up to 7 too many, which are overwritten.
JBNN_INLINE void copy_words(const uint32_t* from, int64_t words, const uint32_t* end, uint32_t* to) {
  if (end - from >= words + 7)
    for (int64_t i = 0; i < words; i += 8)
      _mm256_storeu_si256((__m256i*)(to + i), _mm256_loadu_si256((const __m256i*)(from + i)));
  else
    for (int64_t i = 0; i < words; i++) to[i] = from[i];
}

// The addresses in the table of all nibbles of two windows, and how many are odd in each. The windows' words lie side by side,
// with zeros up to a multiple of 8, whose addresses are made as well.
JBNN_INLINE void addresses(const uint32_t* first, const uint32_t* second, int64_t words, uint16_t* out, int32_t* odd) {
  const __m256i low = _mm256_set1_epi8(15), high = _mm256_set1_epi8(-16);
  const __m256i order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);  // the unpacking below undoes it
  __m256i odd_first = _mm256_setzero_si256(), odd_second = odd_first;
  int64_t sums[2] = {0, 0};
  for (int64_t k = 0; k < words; k += 8, out += 64) {
    const __m256i a = _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i*)(first + k)), order);
    const __m256i c = _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i*)(second + k)), order);
    const __m256i a_low = _mm256_and_si256(a, low), a_high = _mm256_and_si256(_mm256_srli_epi16(a, 4), low);
    const __m256i c_low = _mm256_and_si256(_mm256_slli_epi16(c, 4), high), c_high = _mm256_and_si256(c, high);
    odd_first = _mm256_add_epi8(odd_first, _mm256_add_epi8(odd_nibbles(a_low), odd_nibbles(a_high)));
    odd_second = _mm256_add_epi8(
        odd_second, _mm256_add_epi8(odd_nibbles(_mm256_and_si256(c, low)), odd_nibbles(_mm256_srli_epi16(c_high, 4))));
    const __m256i a_even = _mm256_unpacklo_epi8(a_low, a_high), a_odd = _mm256_unpackhi_epi8(a_low, a_high);
    const __m256i c_even = _mm256_unpacklo_epi8(c_low, c_high), c_odd = _mm256_unpackhi_epi8(c_low, c_high);
    _mm256_storeu_si256((__m256i*)out + 0, _mm256_unpacklo_epi8(c_even, a_even));
    _mm256_storeu_si256((__m256i*)out + 1, _mm256_unpackhi_epi8(c_even, a_even));
    _mm256_storeu_si256((__m256i*)out + 2, _mm256_unpacklo_epi8(c_odd, a_odd));
    _mm256_storeu_si256((__m256i*)out + 3, _mm256_unpackhi_epi8(c_odd, a_odd));
    if (k % 512 == 504 || k + 8 >= words) {  // before a byte is full
      sums[0] += sum_of_bytes(odd_first), sums[1] += sum_of_bytes(odd_second);
      odd_first = odd_second = _mm256_setzero_si256();
    }
  }
  odd[0] = static_cast<int32_t>(sums[0]), odd[1] = static_cast<int32_t>(sums[1]);
}

// A row of the kernel, 32 channels of it, as 8 planes `stride` apart; `odd` gets how many of a channel's nibbles are odd.
JBNN_INLINE void make_plane(const uint32_t* w, int64_t channels, uint8_t* planes, int64_t stride, uint8_t* odd) {
  const avx2::Nibbles nibbles = avx2::nibbles_of(w, channels);
  __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 8
  for (int i = 0; i < kNibbles; i++) {
    _mm256_storeu_si256((__m256i*)(planes + i * stride), nibbles.plane[i]);
    sum = _mm256_add_epi8(sum, odd_nibbles(nibbles.plane[i]));
  }
  _mm256_storeu_si256((__m256i*)odd, sum);
}

// Looks up G nibbles of P pairs of windows and V * 32 channels, and adds them to the counters.
template <int G, int P, int V, bool First>
JBNN_INLINE void look_up(const uint16_t* const* address, const uint8_t* planes, __m256i (*a)[V], __m256i (*b)[V]) {
  __m256i sum[P][V];
#pragma GCC unroll 8
  for (int k = 0; k < G; k++) {
    __m256i table[P];
#pragma GCC unroll 2
    for (int i = 0; i < P; i++) table[i] = _mm256_broadcastsi128_si256(*(const __m128i*)(kTable.data() + address[i][k]));
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      __m256i plane = _mm256_loadu_si256((const __m256i*)planes + k * V + v);
      JBNN_KEEP(plane);
#pragma GCC unroll 2
      for (int i = 0; i < P; i++) {
        const __m256i found = _mm256_shuffle_epi8(table[i], plane);
        sum[i][v] = k ? _mm256_add_epi8(sum[i][v], found) : found;
        JBNN_KEEP(sum[i][v]);
      }
    }
  }
#pragma GCC unroll 2
  for (int i = 0; i < P; i++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      const __m256i high = _mm256_srli_epi16(sum[i][v], 4);
      b[i][v] = First ? sum[i][v] : _mm256_add_epi8(b[i][v], sum[i][v]);
      a[i][v] = First ? high : _mm256_add_epi8(a[i][v], high);
    }
}

// One chunk for P pairs of windows and V * 32 channels: adds the sums of f to `sums`, 16 bits a channel, of 2 P windows.
template <int P, int V>
__attribute__((noinline)) void tile(const uint16_t* const* start, int words, const uint8_t* planes, uint16_t* sums, bool first) {
  __m256i a[P][V], b[P][V];
  const uint16_t* address[P];
#pragma GCC unroll 2
  for (int i = 0; i < P; i++) address[i] = start[i];
  const auto advance = [&](int nibbles) {
    planes += nibbles * V * kLanes;
#pragma GCC unroll 2
    for (int i = 0; i < P; i++) address[i] += nibbles;
  };
  int left = words * kNibbles - kGroup;
  look_up<kGroup, P, V, true>(address, planes, a, b);
  for (advance(kGroup); left >= kGroup; left -= kGroup, advance(kGroup)) look_up<kGroup, P, V, false>(address, planes, a, b);
  switch (left) {
    case 1: look_up<1, P, V, false>(address, planes, a, b); break;
    case 2: look_up<2, P, V, false>(address, planes, a, b); break;
    case 3: look_up<3, P, V, false>(address, planes, a, b); break;
    case 4: look_up<4, P, V, false>(address, planes, a, b); break;
    case 5: look_up<5, P, V, false>(address, planes, a, b); break;
    case 6: look_up<6, P, V, false>(address, planes, a, b); break;
  }
  // Of two neighbouring bytes, with fields high and low each: B holds the sum of both bytes, A, whose even byte also got
  // 16 times the odd byte's low field, that of the bytes shifted right by 4. All is modulo 256.
  const __m256i byte = _mm256_set1_epi16(255);
#pragma GCC unroll 2
  for (int i = 0; i < P; i++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      const __m256i odd_high = _mm256_srli_epi16(a[i][v], 8);
      const __m256i odd_low =
          _mm256_and_si256(_mm256_sub_epi16(_mm256_srli_epi16(b[i][v], 8), _mm256_slli_epi16(odd_high, 4)), byte);
      const __m256i even_high = _mm256_and_si256(_mm256_sub_epi16(a[i][v], _mm256_slli_epi16(odd_low, 4)), byte);
      const __m256i even_low = _mm256_and_si256(_mm256_sub_epi16(b[i][v], _mm256_slli_epi16(even_high, 4)), byte);
      __m256i* of_first = (__m256i*)(sums + 2 * i * V * kLanes + v * kLanes);
      __m256i* of_second = (__m256i*)(sums + (2 * i + 1) * V * kLanes + v * kLanes);
      const __m256i found[4] = {even_high, odd_high, even_low, odd_low};
      __m256i* const to[4] = {of_first, of_first + 1, of_second, of_second + 1};
#pragma GCC unroll 4
      for (int k = 0; k < 4; k++)
        _mm256_store_si256(to[k], first ? found[k] : _mm256_add_epi16(found[k], _mm256_load_si256(to[k])));
    }
}

}  // namespace jbnn::pairs_avx2

JBNN_TARGET_END
