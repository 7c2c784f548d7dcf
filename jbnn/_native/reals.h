// Reals times words: what the paths have in common. Each adds up, for some rows of reals, the products with one row of words.
//
// A window is laid out as a row of floats, 32 to a word of the kernel, zeros where a pixel fills no word; bytes become floats as
// well, in which sums of a few are exact. The kernel is read as it is, and unpacked nowhere.
#pragma once
#include "buffer.h"
#include "leave.h"

namespace jbnn {

constexpr int64_t kRealPanel = 512;  // channels whose sums, of a few rows, stay in the first-level cache

template <class Sum>
struct RealScratch {
  RealScratch(const Reals& p, int64_t positions, int64_t at_once)
      : windows(positions), rows(at_once * p.rows * 32), sums(at_once * kRealPanel), totals(at_once * kRealPanel) {}
  Buffer<Window> windows;
  Buffer<float> rows;
  Buffer<Sum> sums, totals;
};

JBNN_INLINE void to_floats(const Reals& p, int64_t from, int64_t size, float* to) {
  switch (p.real) {
    case Real::kFloat: std::memcpy(to, static_cast<const float*>(p.x) + from, size * sizeof *to); break;
    case Real::kBfloat:
      for (int64_t i = 0; i < size; i++) {
        const uint32_t bits = uint32_t{static_cast<const uint16_t*>(p.x)[from + i]} << 16;
        std::memcpy(to + i, &bits, sizeof bits);
      }
      break;
    case Real::kInt8:
      for (int64_t i = 0; i < size; i++) to[i] = static_cast<const int8_t*>(p.x)[from + i];
      break;
    case Real::kUint8:
      for (int64_t i = 0; i < size; i++) to[i] = static_cast<const uint8_t*>(p.x)[from + i];
      break;
  }
}

// A window as a row. A run is one pixel, unless pixels fill their words.
JBNN_INLINE void lay_out(const Reals& p, const std::vector<Run>& runs, int64_t window, float* row) {
  const int64_t unused = p.words * 32 - p.pixel;
  for (const Run& run : runs) {
    float* const end = row + run.words * 32;
    to_floats(p, window + run.x, run.words * 32 - unused, row);
    std::fill(end - unused, end, 0.f);
    row = end;
  }
}

template <Leaves L, class Sum>
JBNN_INLINE void leave_reals(const Reals& p, const Part& part, int64_t position, int64_t first, int64_t size, const Sum* sums,
                             Sum less) {
  const Sum* channel = p.channel ? static_cast<const Sum*>(p.channel) + part.number * p.features + first : nullptr;
  const int64_t at = position * p.features + first;
  for (int64_t c = 0; c < size; c++) {
    const Sum u = channel ? sums[c] - less + channel[c] : sums[c] - less;
    if constexpr (L == Leaves::kSums)
      static_cast<Sum*>(p.y)[at + c] = u;
    else if constexpr (L == Leaves::kFloats)
      static_cast<float*>(p.y)[at + c] = affine(p, static_cast<float>(u), first + c);
    else
      static_cast<uint16_t*>(p.y)[at + c] = bfloat(affine(p, static_cast<float>(u), first + c));
  }
}

// The rows of a few windows, times all channels of a unit. A path adds to its sums what a row of words makes of 32 reals. If they
// are small integers, it says after how many words they must be emptied into totals; `less` is to be subtracted in the end.
template <class Path, Leaves L, class Sum, int R>
void multiply_rows(const Reals& p, const Unit& unit, const Part& part, const std::vector<Run>& runs, const Window* windows,
                   RealScratch<Sum>& s) {
  const int64_t stride = p.rows * 32;
  for (int r = 0; r < R; r++) lay_out(p, runs, windows[r].x, s.rows.data() + r * stride);
  for (int64_t begin = unit.first_channel; begin < unit.last_channel; begin += kRealPanel) {
    const int64_t size = std::min(kRealPanel, unit.last_channel - begin), first = unit.group * p.features_per_group() + begin;
    Sum less[R] = {};
    std::fill(s.sums.data(), s.sums.data() + R * kRealPanel, Sum{0});
    if (Path::kWords) std::fill(s.totals.data(), s.totals.data() + R * kRealPanel, Sum{0});
    const float* row = s.rows.data();
    int64_t words = 0;
    for (const Run& run : runs)
      for (int64_t k = 0; k < run.words; k++, row += 32) {
        const int reals = static_cast<int>(std::min<int64_t>(32, p.pixel - k % p.words * 32));  // the rest are zeros
        const uint32_t* w = p.w + (run.w + k) * p.features + first;
        Path::template add<R>(p, row, stride, reals, w, size, s.sums.data(), less);
        if constexpr (Path::kWords != 0)
          if (++words % Path::kWords == 0) Path::template empty<R>(size, s.sums.data(), s.totals.data());
      }
    if constexpr (Path::kWords != 0) Path::template empty<R>(size, s.sums.data(), s.totals.data());
    const Sum* sums = Path::kWords ? s.totals.data() : s.sums.data();
    for (int r = 0; r < R; r++) leave_reals<L>(p, part, windows[r].y, first, size, sums + r * kRealPanel, less[r]);
  }
}

template <class Path, Leaves L, class Sum>
void run_reals(const Reals& p, const Units& units, const Unit& unit, RealScratch<Sum>& s) {
  for (int64_t position = unit.first; position < unit.last;) {
    const Part part = units.part(unit, position);
    position += part.size();
    const std::vector<Run> runs = runs_of(*part.box, p.words, p.pixel, p.pixel == p.words * 32);
    windows_of(p, part, unit.group, s.windows.data());
    const Window* window = s.windows.data();
    for (int64_t left = part.size(); left > 0;) {
      const int64_t rows = std::min<int64_t>(left, Path::kRows);
      switch (rows) {
        case 1: multiply_rows<Path, L, Sum, 1>(p, unit, part, runs, window, s); break;
        case 2: multiply_rows<Path, L, Sum, 2>(p, unit, part, runs, window, s); break;
        case 3: multiply_rows<Path, L, Sum, 3>(p, unit, part, runs, window, s); break;
        default: multiply_rows<Path, L, Sum, 4>(p, unit, part, runs, window, s);
      }
      left -= rows, window += rows;
    }
  }
}

}  // namespace jbnn
