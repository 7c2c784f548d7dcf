// The work around the look-ups of pairs_avx2.h: which windows make pairs, in what order planes and sums stay in a cache.
//
// A unit's windows are made into addresses once. Then, panel of channels by panel, the kernel's planes are made (or are given),
// and band of windows by band, chunk of words by chunk, tiles are looked up; a band's sums become what leaves.
#pragma once
#include "pairs_avx2.h"

JBNN_TARGET("avx2,bmi,bmi2,popcnt")

namespace jbnn::pairs_avx2 {

constexpr int64_t kBand = 32;              // pairs of windows whose sums stay in the first-level cache
constexpr int64_t kAddresses = 80 * 1024;  // of all pairs of a unit: in the second-level cache
constexpr int64_t kPlanes = 160 * 1024;    // bytes of the kernel's nibbles, there as well

constexpr int64_t kMostRows = 2000;  // of the kernel, whose sums 16 bits hold
constexpr int64_t kCopies = 8;       // of windows, an even number
constexpr int64_t kRowBytes = kNibbles + 1;

// Words of a window, and where its rows of the kernel begin.
struct Chunk {
  int64_t row, at;
  int words;
};

struct Work {
  Part part;
  std::vector<Run> runs;
  int64_t words, stride, window, address;  // stride: addresses of a pair
};

inline std::vector<Chunk> chunks_of(const std::vector<Run>& runs, int64_t first_row, int64_t last_row) {
  std::vector<Chunk> chunks;
  int64_t at = 0;
  for (const Run& run : runs) {
    const int64_t begin = std::max(run.w, first_row), end = std::min(run.w + run.words, last_row);
    for (int64_t row = begin; row < end; row += kChunk)
      chunks.push_back({row, at + row - run.w, static_cast<int>(std::min<int64_t>(kChunk, end - row))});
    at += run.words;
  }
  return chunks;
}

// The bits of up to 32 sums, of which all 32 may be read.
struct EightByEight {
  uint32_t operator()(const int32_t* sums, const int32_t* threshold, const uint8_t* flip, int64_t channels) const {
    if (channels < kLanes) return BitByBit{}(sums, threshold, flip, channels);
    uint32_t below = 0;
    for (int i = 0; i < 4; i++) {
      const __m256i u = _mm256_loadu_si256((const __m256i*)sums + i), value = _mm256_loadu_si256((const __m256i*)threshold + i);
      below |= static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(value, u)))) << 8 * i;
    }
    const __m256i straight = _mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i*)flip), _mm256_setzero_si256());
    return below ^ static_cast<uint32_t>(_mm256_movemask_epi8(straight));
  }
};

struct Path {
  static Shape shape(const Words& p) {
    const int64_t pairs = std::clamp<int64_t>(kAddresses / (p.rows * kNibbles), 2, 4 * kBand);
    return {2 * pairs, 4, wide(p) ? 4 * kLanes : 2 * kLanes};
  }

  // 128 channels at a time share more, where their planes fit.
  static bool wide(const Words& p) { return p.features_per_group() >= 4 * kLanes && p.rows * kNibbles * 4 * kLanes <= kPlanes; }

  static int registers(int64_t panel, int64_t channels) {
    return channels <= kLanes ? 1 : panel == 4 * kLanes && channels > 2 * kLanes ? 4 : 2;
  }

  struct Scratch {
    explicit Scratch(const Words& p)
        : windows(shape(p).positions),
          odd_windows(shape(p).positions + 2),
          copies(kCopies * (p.rows + 16)),
          addresses((shape(p).positions / 2 + std::min(p.box_count, shape(p).positions) + 1) * (p.rows * kNibbles + 80)),
          rows(std::min(p.rows, p.prepared ? kMostRows : kPlanes / (kNibbles * shape(p).panel))),
          made((p.prepared ? 0 : rows) * kRowBytes * shape(p).panel),
          sums(2 * kBand * shape(p).panel),
          counts(2 * kBand * shape(p).panel) {}
    Buffer<Window> windows;
    Buffer<int32_t> odd_windows;
    Buffer<uint32_t> copies;
    Buffer<uint16_t> addresses;
    int64_t rows;          // of the kernel that are there at a time
    Buffer<uint8_t> made;  // their planes, and after them their odd nibbles
    const uint8_t *planes, *odd;
    Buffer<uint16_t> sums;
    Buffer<int32_t> counts;
  };

  template <Leaves L>
  static void run(const Words& p, const Units& units, const Unit& unit, Scratch& scratch) {
    const std::vector<Work> works = prepare(p, units, unit, scratch);
    const int64_t panel = shape(p).panel;
    for (int64_t channel = unit.first_channel; channel < unit.last_channel; channel += panel) {
      const int64_t size = std::min(panel, unit.last_channel - channel), first = unit.group * p.features_per_group() + channel;
      const int64_t panels = (p.features_per_group() + panel - 1) / panel;
      const uint8_t* prepared =
          p.prepared ? p.prepared + (unit.group * panels + channel / panel) * p.rows * kRowBytes * panel : nullptr;
      switch (registers(panel, size)) {
        case 4: columns<L, 4>(p, works, first, size, prepared, scratch); break;
        case 2: columns<L, 2>(p, works, first, size, prepared, scratch); break;
        default: columns<L, 1>(p, works, first, size, prepared, scratch);
      }
    }
  }

  static std::vector<Work> prepare(const Words& p, const Units& units, const Unit& unit, Scratch& s) {
    std::vector<Work> works;
    int64_t window = 0, address = 0;
    const uint32_t* const end = p.x + p.images * p.x_image;
    for (int64_t position = unit.first; position < unit.last;) {
      Work work{units.part(unit, position), {}, 0, 0, window, address};
      position += work.part.size();
      work.runs = runs_of(p, work.part);
      for (const Run& run : work.runs) work.words += run.words;
      work.stride = (work.words + 7) / 8 * 8 * kNibbles + 16;
      Window* const windows = s.windows.data() + window;
      windows_of(p, work.part, unit.group, work.runs, windows);
      const int64_t row = p.rows + 16;
      for (int64_t begin = 0; begin < work.part.size(); begin += kCopies) {
        // Several at a time: words that were stored just now could not be read at once.
        const int64_t there = std::min<int64_t>(kCopies, work.part.size() - begin);
        for (int64_t i = 0; i < there; i++) copy_window(p.x + windows[begin + i].x, work.runs, end, s.copies.data() + i * row);
        for (int64_t i = 0; i < there; i += 2, address += work.stride) {
          const int64_t other = std::min(i + 1, there - 1);  // the last may be alone
          int32_t odd[2];
          pairs_avx2::addresses(s.copies.data() + i * row, s.copies.data() + other * row, work.words,
                                s.addresses.data() + address, odd);
          s.odd_windows[window + begin + i] = odd[0];
          s.odd_windows[window + begin + other] = odd[other - i];
        }
      }
      window += work.part.size();
      works.push_back(std::move(work));
    }
    return works;
  }

  static void copy_window(const uint32_t* x, const std::vector<Run>& runs, const uint32_t* end, uint32_t* copy) {
    for (const Run& run : runs) {
      copy_words(x + run.x, run.words, end, copy);
      copy += run.words;
    }
    _mm256_storeu_si256((__m256i*)copy, _mm256_setzero_si256());
  }

  template <Leaves L, int V>
  static void columns(const Words& p, const std::vector<Work>& works, int64_t first, int64_t size, const uint8_t* prepared,
                      Scratch& s) {
    const bool at_once = p.rows <= s.rows;
    const auto turn_to = [&](int64_t row, int64_t last) {
      if (prepared) {
        s.planes = prepared + row * kNibbles * V * kLanes;
        s.odd = prepared + (p.rows * kNibbles + row) * V * kLanes;
      } else {
        make_planes<V>(p.w + row * p.features + first, p.features, last - row, size, s.made.data());
        s.planes = s.made.data();
        s.odd = s.made.data() + (last - row) * kNibbles * V * kLanes;
      }
    };
    if (at_once) turn_to(0, p.rows);
    for (const Work& work : works)
      for (int64_t begin = 0; begin < work.part.size(); begin += 2 * kBand) {
        const int64_t windows = std::min(2 * kBand, work.part.size() - begin);
        int64_t row = 0;
        do {
          const int64_t last = std::min(row + s.rows, p.rows);
          if (!at_once) turn_to(row, last);
          const std::vector<Chunk> chunks = chunks_of(work.runs, row, last);
          band<V>(work, begin, windows, chunks, row, s);
          finish<L, V>(p, work, begin, windows, chunks, row, last, first, size, s);
          row = last;
        } while (row < p.rows);
      }
  }

  // The planes of rows of the kernel, and after them how many nibbles of each channel are odd.
  template <int V>
  static void make_planes(const uint32_t* w, int64_t ldw, int64_t rows, int64_t channels, uint8_t* planes) {
    uint8_t* odd = planes + rows * kNibbles * V * kLanes;
    for (int64_t row = 0; row < rows; row++, w += ldw)
      for (int v = 0; v < V; v++, odd += kLanes)
        make_plane(w + v * kLanes, channels - v * kLanes, planes + (row * kNibbles * V + v) * kLanes, V * kLanes, odd);
  }

  // Of a kernel that is known before any call, all panels of all groups, one after the other.
  static int64_t prepared_size(const Words& p) {
    const int64_t panel = shape(p).panel;
    return p.groups * ((p.features_per_group() + panel - 1) / panel) * panel * p.rows * kRowBytes;
  }
  static void prepare(const Words& p, uint8_t* out) {
    const int64_t panel = shape(p).panel;
    for (int64_t group = 0; group < p.groups; group++)
      for (int64_t channel = 0; channel < p.features_per_group(); channel += panel, out += p.rows * kRowBytes * panel) {
        const int64_t size = std::min(panel, p.features_per_group() - channel);
        const uint32_t* w = p.w + group * p.features_per_group() + channel;
        switch (registers(panel, size)) {
          case 4: make_planes<4>(w, p.features, p.rows, size, out); break;
          case 2: make_planes<2>(w, p.features, p.rows, size, out); break;
          default: make_planes<1>(w, p.features, p.rows, size, out);
        }
      }
  }

  template <int V>
  static void band(const Work& work, int64_t begin, int64_t windows, const std::vector<Chunk>& chunks, int64_t first_row,
                   Scratch& s) {
    const int64_t pairs = (windows + 1) / 2;
    const uint16_t* const start = s.addresses.data() + work.address + begin / 2 * work.stride;
    if (chunks.empty()) std::fill(s.sums.data(), s.sums.data() + 2 * pairs * V * kLanes, 0);
    for (const Chunk& chunk : chunks) {
      const uint8_t* planes = s.planes + (chunk.row - first_row) * kNibbles * V * kLanes;
      const bool is_first = &chunk == chunks.data();
      for (int64_t i = 0; i < pairs; i += 2) {
        const uint16_t* const at = start + i * work.stride + chunk.at * kNibbles;
        const uint16_t* const address[2] = {at, at + work.stride};
        uint16_t* const sums = s.sums.data() + 2 * i * V * kLanes;
        if (i + 1 < pairs)
          tile<2, V>(address, chunk.words, planes, sums, is_first);
        else
          tile<1, V>(address, chunk.words, planes, sums, is_first);
      }
    }
  }

  // With the sums of f over the rows that are there: u = (term + pixel - (counts << up)) >> down once all have been.
  template <Leaves L, int V>
  static void finish(const Words& p, const Work& work, int64_t begin, int64_t windows, const std::vector<Chunk>& chunks,
                     int64_t first_row, int64_t last_row, int64_t first, int64_t size, Scratch& s) {
    constexpr int kColumns = V * kLanes;
    const int32_t* const channel = p.channel + work.part.number * p.features;
    alignas(64) int32_t base[kColumns];  // the count of a channel, less what depends on the window
    count_odd<V>(chunks, first_row, base, s);
    const int up = p.up, down = p.down;
    if (first_row > 0 || last_row < p.rows) {  // in several steps
      for (int64_t i = 0; i < windows; i++) {
        const uint16_t* const sums = s.sums.data() + i * kColumns;
        int32_t* const counts = s.counts.data() + i * kColumns;
        for (int c = 0; c < kColumns; c++) counts[c] = (first_row ? counts[c] : 0) + base[c] - 2 * sums[c];
        if (last_row < p.rows) continue;
        const int32_t odd = s.odd_windows[work.window + begin + i];
        for (int c = 0; c < kColumns; c++) counts[c] -= odd;
        const Window& window = s.windows[work.window + begin + i];
        for (int64_t c = 0; c < size; c += 64)
          leave_counts<L>(p, {channel, first + c, std::min<int64_t>(64, size - c)}, window, counts + c);
      }
      return;
    }
    alignas(64) int32_t term[kColumns];
    for (int64_t c = 0; c < kColumns; c++) term[c] = (c < size ? channel[first + c] : 0) - (base[c] << up);
    for (int64_t i = 0; i < windows; i++) {
      const Window& window = s.windows[work.window + begin + i];
      const int32_t pixel = window.pixel + (s.odd_windows[work.window + begin + i] << up);
      for (int64_t c = 0; c < size; c += 64) {
        const uint16_t* const sums = s.sums.data() + i * kColumns + c;
        const int32_t* const terms = term + c;
        const Panel panel{channel, first + c, std::min<int64_t>(64, size - c)};
        if (down)
          leave<L>(
              p, panel, window.y, [=](int64_t k) { return (terms[k] + pixel + (sums[k] << (up + 1))) >> 1; }, EightByEight{});
        else
          leave<L>(p, panel, window.y, [=](int64_t k) { return terms[k] + pixel + (sums[k] << (up + 1)); }, EightByEight{});
      }
    }
  }

  // 4 a nibble, and the odd nibbles of each channel.
  template <int V>
  static void count_odd(const std::vector<Chunk>& chunks, int64_t first_row, int32_t* base, Scratch& s) {
    alignas(64) uint16_t odd[V * kLanes] = {};
    int32_t words = 0;
    for (const Chunk& chunk : chunks) {
      words += chunk.words;
      for (int64_t row = chunk.row; row < chunk.row + chunk.words; row++) {
        const uint8_t* from = s.odd + (row - first_row) * V * kLanes;
        for (int c = 0; c < V * kLanes; c++) odd[c] = static_cast<uint16_t>(odd[c] + from[c]);
      }
    }
    for (int v = 0; v < V; v++)
      for (int c = 0; c < kLanes / 2; c++) {
        base[v * kLanes + c] = 4 * kNibbles * words + odd[v * kLanes + 2 * c];
        base[v * kLanes + kLanes / 2 + c] = 4 * kNibbles * words + odd[v * kLanes + 2 * c + 1];
      }
  }
};

}  // namespace jbnn::pairs_avx2

JBNN_TARGET_END
