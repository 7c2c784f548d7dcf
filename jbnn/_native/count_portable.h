// Counting in plain C++, for any processor.
#pragma once
#include "leave.h"

namespace jbnn::count_portable {

constexpr int kPanel = 32;

struct Tile {
  static constexpr Shape kShape{48, 1, kPanel};
  static constexpr int64_t kNarrow = 0;

  static void windows(const Words& p, const Part& part, int64_t group, const std::vector<Run>& runs, Window* out) {
    windows_of(p, part, group, runs, out);
  }

  template <Leaves L, int P>
  static void run(const Words& p, const Window* windows, const std::vector<Run>& runs, const Panel& panel) {
    for (int i = 0; i < P; i++) {
      int32_t count[kPanel] = {};
      for (const Run& run : runs)
        for (int64_t k = 0; k < run.words; k++) {
          const uint32_t* w = p.w + (run.w + k) * p.features + panel.first;
          for (int64_t c = 0; c < panel.size; c++) count[c] += __builtin_popcount(p.x[windows[i].x + run.x + k] ^ w[c]);
        }
      leave_counts<L>(p, panel, windows[i], count);
    }
  }
};

using Path = ByTiles<Tile>;

}  // namespace jbnn::count_portable
