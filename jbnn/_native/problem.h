// One correlation of words as numbers, and how it falls into boxes. Nothing here computes.
//
// A *box* is a block of output positions that see the same taps: all positions of the interior are one box, and at a border,
// where some taps lie outside the image, those that miss the same taps are another. The positions of a transposed convolution
// fall into boxes by phase. So within a box every tap is read, nothing is padded, and no zero between pixels is visited.
// Python finds the boxes (jbnn/_kernels/boxes.py); what the taps outside read is in a term of the channels.
#pragma once
#include <cstdint>
#include <vector>

namespace jbnn {

constexpr int kAxes = 3;  // spatial axes; an image of fewer has leading axes of one row

// Steps are in elements of x, in positions of y, and in rows of w.
struct Axis {
  int32_t count, x_step, y_step;  // positions
  int32_t taps, x_tap, w_tap;
};

struct Box {
  int32_t x_start, y_start, w_start;
  Axis axis[kAxes];

  int64_t positions() const { return int64_t{axis[0].count} * axis[1].count * axis[2].count; }
  int64_t taps() const { return int64_t{axis[0].taps} * axis[1].taps * axis[2].taps; }
};
constexpr int kBoxNumbers = sizeof(Box) / sizeof(int32_t);

// Rows of the kernel that follow each other, as does in the window what they meet.
struct Run {
  int64_t x;  // from the window's start
  int64_t w, words;
};

// Of boxes whose pixels are `pixel` long; `words` of w meet a pixel. Taps make one run where one's pixel ends as its words do.
inline std::vector<Run> runs_of(const Box& box, int64_t words, int64_t pixel, bool merged) {
  std::vector<Run> runs;
  const Axis &a = box.axis[0], &b = box.axis[1], &c = box.axis[2];
  for (int64_t i = 0; i < a.taps; i++)
    for (int64_t j = 0; j < b.taps; j++)
      for (int64_t k = 0; k < c.taps; k++) {
        const int64_t x = i * a.x_tap + j * b.x_tap + k * c.x_tap;
        const int64_t w = box.w_start + i * a.w_tap + j * b.w_tap + k * c.w_tap;
        const int64_t before = runs.empty() ? 0 : runs.back().words;
        if (merged && before && runs.back().x + before / words * pixel == x && runs.back().w + before == w)
          runs.back().words += words;
        else
          runs.push_back({x, w, words});
      }
  return runs;
}

enum class Leaves : int32_t { kSums = 0, kFloats = 1, kBfloats = 2, kBits = 3 };

// One correlation: u = channel + what a path adds up over the live taps, and what leaves of it.
struct Problem {
  const uint32_t* w;  // (rows, features)
  const Box* boxes;
  int64_t box_count, images, x_image, y_image, features, groups;
  int64_t rows;   // of w, taps times words
  int64_t words;  // of one group of one pixel
  int64_t pixel;  // of one group: words, or reals

  Leaves leaves;
  void* y;                    // (images, y_image, features), bits in words
  const float *scale, *bias;  // kFloats, kBfloats: (features,), or null
  float low, high;            // infinite: no clamp

  int64_t features_per_group() const { return features / groups; }
};

// Words: with X = popcount(x ^ w) over the live taps, u = (channel + pixel - X * 2^up) / 2^down, which is exact.
struct Words : Problem {
  const uint32_t* x;         // (images, x_image)
  const int32_t* channel;    // (boxes, features)
  uint32_t used;             // the bits of a pixel's last word that count; those of w that do not are zero
  int32_t up, down, ones;    // pixel = ones * (bits of the window that are 1 and count)
  const uint8_t* prepared;   // w as its path has prepared it, or null
  const int32_t* threshold;  // kBits: (features,)
  const uint8_t* flip;

  bool needs_pixel_term() const { return ones != 0 || used != ~0u; }
};

// Reals: u = channel + the sum of x where a bit of w is 1, and of -x where it is 0. Sums of floats are floats, of bytes int32.
enum class Real : int32_t { kFloat = 0, kBfloat = 1, kInt8 = 2, kUint8 = 3 };

struct Reals : Problem {
  Real real;
  const void* x;        // (images, x_image)
  const void* channel;  // (boxes, features) of the sums' type, or null for zeros
};

}  // namespace jbnn
