// Reals times words in plain C++, for any processor.
#pragma once
#include "reals.h"

namespace jbnn::reals_portable {

struct Path {
  static constexpr int kRows = 4;
  static constexpr int64_t kWords = 0;

  template <int R, class Sum>
  static void add(const Reals&, const float* rows, int64_t stride, int reals, const uint32_t* w, int64_t channels, Sum* sums,
                  Sum*) {
    for (int i = 0; i < reals; i++)
      for (int r = 0; r < R; r++) {
        const Sum x = static_cast<Sum>(rows[r * stride + i]);
        Sum* __restrict out = sums + r * kRealPanel;
        for (int64_t c = 0; c < channels; c++) out[c] += w[c] >> i & 1 ? x : -x;
      }
  }
};

}  // namespace jbnn::reals_portable
