// Counting with AVX-512 VPOPCNTDQ: exclusive or, count and add, for 512 bits at a time.
//
// A tile is 6 windows by 64 output channels: 24 registers of sums, 4 of the kernel's words, and one word of an image for all
// channels. On two vector units its 72 instructions a word take 36 cycles, and its 10 loads hide behind them.
#pragma once
#include <immintrin.h>

#include <cstring>

#include "target.h"
#include "tiles.h"

JBNN_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,popcnt,prfchw")

namespace jbnn::count_avx512 {

constexpr int kTile = 6, kLanes = 16, kPanel = 4 * kLanes;
constexpr int64_t kNarrow = 2 * kLanes;  // channels of a tile of 12 windows

JBNN_INLINE __m512 affine(const Words& p, __m512i u, int64_t channel, __mmask16 mask) {
  __m512 y = _mm512_cvtepi32_ps(u);
  if (p.scale) y = _mm512_mul_ps(y, _mm512_maskz_loadu_ps(mask, p.scale + channel));
  if (p.bias) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, p.bias + channel));
  // A NaN stays: where a comparison fails, these give their second operand.
  y = _mm512_max_ps(_mm512_set1_ps(p.low), y);
  return _mm512_min_ps(_mm512_set1_ps(p.high), y);
}

// To the nearest, of two the even one; a NaN stays one.
JBNN_INLINE __m256i bfloats(__m512 y) {
  const __m512i bits = _mm512_castps_si512(y);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(y, y, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(1 << 22)), 16));
}

// Stores what leaves, of one window and 16 channels; `at` is the place of the first among all results.
template <Leaves L>
JBNN_INLINE void leave(const Words& p, void* y, __m512i u, int64_t at, int64_t channel, __mmask16 mask) {
  if constexpr (L == Leaves::kSums) {
    _mm512_mask_storeu_epi32(static_cast<int32_t*>(y) + at, mask, u);
  } else if constexpr (L == Leaves::kFloats) {
    _mm512_mask_storeu_ps(static_cast<float*>(y) + at, mask, affine(p, u, channel, mask));
  } else if constexpr (L == Leaves::kBfloats) {
    _mm256_mask_storeu_epi16(static_cast<uint16_t*>(y) + at, mask, bfloats(affine(p, u, channel, mask)));
  }
}

// The bits of a window and V * 16 channels, at once.
template <int V>
JBNN_INLINE void leave_bits(uint16_t* y, const __mmask16* bits, bool ends_in_half_a_word) {
  if constexpr (V == 4) {
    const uint64_t all = uint64_t{bits[0]} | uint64_t{bits[1]} << 16 | uint64_t{bits[2]} << 32 | uint64_t{bits[3]} << 48;
    std::memcpy(y, &all, sizeof all);
  } else {
    for (int v = 0; v < V; v++) y[v] = bits[v];
    if (ends_in_half_a_word) y[V] = 0;
  }
}

// P windows by V * 16 channels, the last 16 of them masked.
template <Leaves L, int P, int V>
void vectors(const Words& p, const Window* windows, const std::vector<Run>& runs, const Panel& panel, __mmask16 mask) {
  const int64_t column = panel.first;
  __m512i count[P][V];
#pragma GCC unroll 12
  for (int i = 0; i < P; i++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) count[i][v] = _mm512_setzero_si512();
  if constexpr (L == Leaves::kSums || L == Leaves::kFloats)  // so that lines to be written are there when they are
#pragma GCC unroll 12
    for (int i = 0; i < P; i++)
#pragma GCC unroll 4
      for (int v = 0; v < V; v++)
        __builtin_prefetch(static_cast<int32_t*>(p.y) + windows[i].y * p.features + column + v * kLanes, 1);
  for (const Run& run : runs) {
    const uint32_t* x[P];
#pragma GCC unroll 12
    for (int i = 0; i < P; i++) x[i] = p.x + windows[i].x + run.x;
    const uint32_t* w = p.w + run.w * p.features + column;
    for (int64_t k = 0; k < run.words; k++, w += p.features) {
      __m512i row[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; v++)
        row[v] = v + 1 < V ? _mm512_loadu_si512(w + v * kLanes) : _mm512_maskz_loadu_epi32(mask, w + v * kLanes);
#pragma GCC unroll 12
      for (int i = 0; i < P; i++) {
        const __m512i word = _mm512_set1_epi32(x[i][k]);
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) {
          count[i][v] = _mm512_add_epi32(count[i][v], _mm512_popcnt_epi32(_mm512_xor_si512(word, row[v])));
          JBNN_KEEP_WIDE(count[i][v]);
        }
      }
    }
  }
  void* const y = p.y;
  const int64_t row = L == Leaves::kBits ? (p.features + 31) / 32 * 32 : p.features;  // of results
  const bool with_pixel_term = p.needs_pixel_term(), halved = p.down != 0;
  const __m128i up = _mm_cvtsi32_si128(p.up);
  const bool half_a_word = V % 2 == 1 && column + panel.size == p.features;
  __m512i term[V], value[V];
  __mmask16 flip[V], stored[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; v++) {
    stored[v] = v + 1 < V ? 0xffff : mask;
    term[v] = _mm512_maskz_loadu_epi32(stored[v], panel.channel + column + v * kLanes);
    if constexpr (L == Leaves::kBits) {
      value[v] = _mm512_maskz_loadu_epi32(stored[v], p.threshold + column + v * kLanes);
      const __m128i flips = _mm_maskz_loadu_epi8(stored[v], p.flip + column + v * kLanes);
      flip[v] = _mm_test_epi8_mask(flips, flips);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < P; i++) {
    const int64_t at = windows[i].y * row + column;
    const __m512i pixel = _mm512_set1_epi32(windows[i].pixel);
    __mmask16 bits[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      __m512i u = _mm512_sub_epi32(term[v], _mm512_sll_epi32(count[i][v], up));
      if (with_pixel_term) u = _mm512_add_epi32(u, pixel);
      if (halved) u = _mm512_srai_epi32(u, 1);
      if constexpr (L == Leaves::kBits)
        bits[v] = (_mm512_cmpge_epi32_mask(u, value[v]) ^ flip[v]) & stored[v];
      else
        leave<L>(p, y, u, at + v * kLanes, column + v * kLanes, stored[v]);
    }
    if constexpr (L == Leaves::kBits) leave_bits<V>(static_cast<uint16_t*>(y) + at / 16, bits, half_a_word);
  }
}

struct Tile {
  static constexpr Shape kShape{96, kTile, kPanel};
  static constexpr int64_t kNarrow = count_avx512::kNarrow;

  static void windows(const Words& p, const Part& part, int64_t group, const std::vector<Run>& runs, Window* out) {
    windows_of(p, part, group, runs, out);
  }

  template <Leaves L, int P>
  static void run(const Words& p, const Window* windows, const std::vector<Run>& runs, const Panel& panel) {
    const int64_t rest = (panel.size - 1) % kLanes + 1;
    const __mmask16 mask = (1u << rest) - 1;
    switch ((panel.size - 1) / kLanes) {
      case 3:
        if constexpr (P <= kTile) return vectors<L, P, 4>(p, windows, runs, panel, mask);
        break;
      case 2:
        if constexpr (P <= kTile) return vectors<L, P, 3>(p, windows, runs, panel, mask);
        break;
      case 1: return vectors<L, P, 2>(p, windows, runs, panel, mask);
      default: return vectors<L, P, 1>(p, windows, runs, panel, mask);
    }
  }
};

using Path = ByTiles<Tile>;

}  // namespace jbnn::count_avx512

JBNN_TARGET_END
