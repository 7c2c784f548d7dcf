// Counting with NEON: exclusive or, count of each byte, and add, for 128 bits at a time.
//
// A byte holds the counts of 31 words; then they go to 32-bit sums.
#pragma once
#include <arm_neon.h>

#include "leave.h"

namespace jbnn::count_neon {

constexpr int kTile = 4, kLanes = 4, kVectors = 4, kPanel = 2 * kLanes * kVectors, kWords = 31;

// P windows by 16 channels, of which `channels` are there.
template <int P>
JBNN_INLINE void counts(const Words& p, const Window* windows, const std::vector<Run>& runs, int64_t column, int64_t channels,
                        int32_t (*out)[kPanel]) {
  uint32x4_t sums[P][kVectors] = {};
  for (const Run& run : runs)
    for (int64_t first = 0; first < run.words; first += kWords) {
      uint8x16_t bytes[P][kVectors];
      for (int i = 0; i < P; i++)
        for (int v = 0; v < kVectors; v++) bytes[i][v] = vdupq_n_u8(0);
      for (int64_t k = first; k < std::min<int64_t>(first + kWords, run.words); k++) {
        const uint32_t* w = p.w + (run.w + k) * p.features + column;
        uint32_t some[kLanes * kVectors] = {};
        if (channels < kLanes * kVectors) {
          std::memcpy(some, w, channels * sizeof *w);
          w = some;
        }
        uint32x4_t row[kVectors];
        for (int v = 0; v < kVectors; v++) row[v] = vld1q_u32(w + v * kLanes);
        for (int i = 0; i < P; i++) {
          const uint32x4_t word = vdupq_n_u32(p.x[windows[i].x + run.x + k]);
          for (int v = 0; v < kVectors; v++)
            bytes[i][v] = vaddq_u8(bytes[i][v], vcntq_u8(vreinterpretq_u8_u32(veorq_u32(word, row[v]))));
        }
      }
      for (int i = 0; i < P; i++)
        for (int v = 0; v < kVectors; v++) sums[i][v] = vpadalq_u16(sums[i][v], vpaddlq_u8(bytes[i][v]));
    }
  for (int i = 0; i < P; i++)
    for (int v = 0; v < kVectors; v++) vst1q_u32(reinterpret_cast<uint32_t*>(out[i] + v * kLanes), sums[i][v]);
}

struct Tile {
  static constexpr Shape kShape{48, kTile, kPanel};
  static constexpr int64_t kNarrow = 0;

  static void windows(const Words& p, const Part& part, int64_t group, const std::vector<Run>& runs, Window* out) {
    windows_of(p, part, group, runs, out);
  }

  template <Leaves L, int P>
  static void run(const Words& p, const Window* windows, const std::vector<Run>& runs, const Panel& panel) {
    constexpr int64_t half = kLanes * kVectors;
    int32_t count[P][kPanel];
    counts<P>(p, windows, runs, panel.first, panel.size, count);
    if (panel.size > half)
      counts<P>(p, windows, runs, panel.first + half, panel.size - half, reinterpret_cast<int32_t (*)[kPanel]>(count[0] + half));
    for (int i = 0; i < P; i++) leave_counts<L>(p, panel, windows[i], count[i]);
  }
};

using Path = ByTiles<Tile>;

}  // namespace jbnn::count_neon
