// What the paths that count have in common: the terms of windows, and tiles.
#pragma once
#include "units.h"

namespace jbnn {

// Output channels side by side.
struct Panel {
  const int32_t* channel;  // the term of the box, of all output channels
  int64_t first, size;     // among all output channels
};

inline std::vector<Run> runs_of(const Words& p, const Part& part) { return runs_of(*part.box, p.words, p.words, true); }

// What a window's pixels hold, times `ones`; and bits of theirs that do not count, but will be counted.
JBNN_INLINE int32_t pixel_term(const Words& p, const uint32_t* x, const std::vector<Run>& runs) {
  int32_t ones = 0, unused = 0;
  for (const Run& run : runs)
    for (int64_t k = 0; k < run.words; k += p.words) {
      const uint32_t* const pixel = x + run.x + k;
      if (p.ones)
        for (int64_t i = 0; i < p.words; i++) ones += __builtin_popcount(i + 1 < p.words ? pixel[i] : pixel[i] & p.used);
      unused += __builtin_popcount(pixel[p.words - 1] & ~p.used);
    }
  return p.ones * ones + (unused << p.up);
}

// Inlined, like the term, so that ones are counted by what instructions the caller may use.
JBNN_INLINE void windows_of(const Words& p, const Part& part, int64_t group, const std::vector<Run>& runs, Window* out) {
  windows_of(p, part, group, out);
  if (p.needs_pixel_term())
    for (int64_t i = 0; i < part.size(); i++) out[i].pixel = pixel_term(p, p.x + out[i].x, runs);
}

// A path that does a unit part by part, panel by panel and tile by tile, of what Tile::run<L, P> does with P windows and a panel;
// Tile::windows says where they begin.
// Its kShape says how many windows make a tile, six at most; of panels of up to kNarrow channels twice as many do.
template <class Tile>
struct ByTiles {
  struct Scratch {
    explicit Scratch(const Words&) {}
  };
  static Shape shape(const Words&) { return Tile::kShape; }

  template <Leaves L>
  static void run(const Words& p, const Units& units, const Unit& unit, Scratch&) {
    constexpr int64_t kTile = Tile::kShape.tile;
    Window windows[Tile::kShape.positions];
    for (int64_t position = unit.first; position < unit.last;) {
      const Part part = units.part(unit, position);
      position += part.size();
      const std::vector<Run> runs = runs_of(p, part);
      Tile::windows(p, part, unit.group, runs, windows);
      for (int64_t channel = unit.first_channel; channel < unit.last_channel; channel += Tile::kShape.panel) {
        const int64_t channels = std::min(Tile::kShape.panel, unit.last_channel - channel);
        const Panel panel{p.channel + part.number * p.features, unit.group * p.features_per_group() + channel, channels};
        const Window* window = windows;
        int64_t left = part.size();
        if (panel.size <= Tile::kNarrow)  // half as many channels leave room for twice the windows
          for (; left >= 2 * kTile; left -= 2 * kTile, window += 2 * kTile)
            Tile::template run<L, 2 * kTile>(p, window, runs, panel);
        for (; left > 0; left -= kTile, window += kTile) switch (std::min(left, kTile)) {
            case 1: Tile::template run<L, 1>(p, window, runs, panel); break;
            case 2: Tile::template run<L, 2>(p, window, runs, panel); break;
            case 3: Tile::template run<L, 3>(p, window, runs, panel); break;
            case 4: Tile::template run<L, 4>(p, window, runs, panel); break;
            case 5: Tile::template run<L, 5>(p, window, runs, panel); break;
            default: Tile::template run<L, 6>(p, window, runs, panel);
          }
      }
    }
  }
};

}  // namespace jbnn
