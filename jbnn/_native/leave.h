// What leaves, from counts of up to 64 output channels of one window: plain loops, which compilers vectorise.
#pragma once
#include <cstring>

#include "tiles.h"

namespace jbnn {

JBNN_INLINE float affine(const Problem& p, float y, int64_t channel) {
  if (p.scale) y = y * p.scale[channel];
  if (p.bias) y = y + p.bias[channel];
  y = y < p.low ? p.low : y;  // a NaN stays
  return y > p.high ? p.high : y;
}

// To the nearest, of two the even one; a NaN stays one.
JBNN_INLINE uint16_t bfloat(float y) {
  uint32_t bits;
  std::memcpy(&bits, &y, sizeof bits);
  const uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
  return static_cast<uint16_t>((y != y ? bits | 1u << 22 : rounded) >> 16);
}

// The bits of up to 32 sums.
struct BitByBit {
  uint32_t operator()(const int32_t* sums, const int32_t* threshold, const uint8_t* flip, int64_t channels) const {
    uint32_t word = 0;
    for (int64_t c = 0; c < channels; c++) word |= uint32_t{(sums[c] >= threshold[c]) != (flip[c] != 0)} << c;
    return word;
  }
};

// The sums of at most 64 channels, u by channel.
template <class Sum>
JBNN_INLINE void write_sums(const Sum& u, int64_t channels, int32_t* __restrict sums) {
  if (channels == 64)
    for (int c = 0; c < 64; c++) sums[c] = u(c);
  else
    for (int64_t c = 0; c < channels; c++) sums[c] = u(c);
}

// What leaves of a window for a panel of at most 64 channels, of u by channel; where bits leave, the panel begins with a word.
template <Leaves L, class Sum, class BitsOf = BitByBit>
JBNN_INLINE void leave(const Words& p, const Panel& panel, int64_t position, const Sum& u, const BitsOf& bits_of = {}) {
  const int64_t at = position * p.features + panel.first;
  if constexpr (L == Leaves::kSums) return write_sums(u, panel.size, static_cast<int32_t*>(p.y) + at);
  alignas(64) int32_t sums[64];
  write_sums(u, panel.size, sums);
  if constexpr (L == Leaves::kFloats) {
    float* y = static_cast<float*>(p.y) + at;
    for (int64_t c = 0; c < panel.size; c++) y[c] = affine(p, static_cast<float>(sums[c]), panel.first + c);
  } else if constexpr (L == Leaves::kBfloats) {
    uint16_t* y = static_cast<uint16_t*>(p.y) + at;
    for (int64_t c = 0; c < panel.size; c++) y[c] = bfloat(affine(p, static_cast<float>(sums[c]), panel.first + c));
  } else if constexpr (L == Leaves::kBits) {
    uint32_t* y = static_cast<uint32_t*>(p.y) + position * ((p.features + 31) / 32) + panel.first / 32;
    for (int64_t c = 0; c < panel.size; c += 32)
      y[c / 32] =
          bits_of(sums + c, p.threshold + panel.first + c, p.flip + panel.first + c, std::min<int64_t>(32, panel.size - c));
  }
}

// The same, of the counts of a window.
template <Leaves L>
JBNN_INLINE void leave_counts(const Words& p, const Panel& panel, const Window& window, const int32_t* count) {
  const int32_t* term = panel.channel + panel.first;
  leave<L>(p, panel, window.y, [=, &p](int64_t c) { return (term[c] + window.pixel - (count[c] << p.up)) >> p.down; });
}

}  // namespace jbnn
