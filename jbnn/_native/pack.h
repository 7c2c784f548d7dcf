// Bytes that are 0 or 1 to bits, 32 to a word.
#pragma once
#include <cstring>

#include "target.h"
#include "units.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace jbnn {

// Eight bytes at a time: a product moves the lowest bit of each to the highest byte, the first byte's to its lowest bit.
inline void pack_portable(const uint8_t* bytes, int64_t words, uint32_t* out) {
  for (int64_t i = 0; i < words; i++) {
    uint32_t word = 0;
    for (int k = 0; k < 4; k++) {
      uint64_t eight;
      std::memcpy(&eight, bytes + 32 * i + 8 * k, sizeof eight);
      word |= static_cast<uint32_t>(eight * 0x0102040810204080u >> 56) << 8 * k;
    }
    out[i] = word;
  }
}

#if defined(__x86_64__)
JBNN_TARGET("avx2")
inline void pack_avx2(const uint8_t* bytes, int64_t words, uint32_t* out) {
  for (int64_t i = 0; i < words; i++) {
    const __m256i some = _mm256_loadu_si256((const __m256i*)bytes + i);
    out[i] = static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpgt_epi8(some, _mm256_setzero_si256())));
  }
}
JBNN_TARGET_END
#endif

inline void pack(const uint8_t* bytes, int64_t words, uint32_t* out) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return pack_avx2(bytes, words, out);
#endif
  pack_portable(bytes, words, out);
}

}  // namespace jbnn
