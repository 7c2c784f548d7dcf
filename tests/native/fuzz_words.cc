// Random correlations of words on every path that this processor can run, against plain loops: exact, nothing read or written
// outside the arrays, on one thread and on several.
//
//     fuzz_words [problems] [seed]
#include <cmath>
#include <cstdio>
#include <limits>

#include "../../jbnn/_native/pack.h"
#include "drawn.h"
#include "guarded.h"

using namespace jbnn;

namespace {

int32_t naive(const Words& p, const Box& box, int64_t n, const int64_t* at, int64_t o, int64_t term) {
  const int64_t group = o / p.features_per_group();
  int64_t count = 0, ones = 0;
  for (int64_t i = 0; i < box.axis[0].taps; i++)
    for (int64_t j = 0; j < box.axis[1].taps; j++)
      for (int64_t k = 0; k < box.axis[2].taps; k++) {
        const int64_t tap[kAxes] = {i, j, k};
        int64_t x = n * p.x_image + box.x_start + group * p.words, w = box.w_start;
        for (int a = 0; a < kAxes; a++) {
          x += at[a] * box.axis[a].x_step + tap[a] * box.axis[a].x_tap;
          w += tap[a] * box.axis[a].w_tap;
        }
        for (int64_t c = 0; c < p.words; c++) {
          const uint32_t used = c + 1 < p.words ? ~0u : p.used;
          count += __builtin_popcount((p.x[x + c] ^ p.w[(w + c) * p.features + o]) & used);
          ones += __builtin_popcount(p.x[x + c] & used);
        }
      }
  return static_cast<int32_t>((term + p.ones * ones - (count << p.up)) >> p.down);
}

bool same(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0 || (a != a && b != b); }

// Whether element o of the results of a window is what u makes it.
bool right(const Words& p, int64_t row, int64_t o, int32_t u) {
  if (p.leaves == Leaves::kSums) return static_cast<int32_t*>(p.y)[row * p.features + o] == u;
  if (p.leaves == Leaves::kBits) {
    const uint32_t word = static_cast<uint32_t*>(p.y)[row * ((p.features + 31) / 32) + o / 32];
    const bool bit = (u >= p.threshold[o]) != (p.flip[o] != 0);
    const bool rest_is_zero = o + 1 < p.features || p.features % 32 == 0 || word >> p.features % 32 == 0;
    return (word >> o % 32 & 1) == bit && rest_is_zero;
  }
  float y = static_cast<float>(u);
  if (p.scale) y *= p.scale[o];
  if (p.bias) y += p.bias[o];
  if (y < p.low) y = p.low;
  if (y > p.high) y = p.high;
  if (p.leaves == Leaves::kFloats) return same(static_cast<float*>(p.y)[row * p.features + o], y);
  const uint32_t bits = uint32_t{static_cast<uint16_t*>(p.y)[row * p.features + o]} << 16;
  float rounded;
  std::memcpy(&rounded, &bits, sizeof bits);
  if (y != y || std::isinf(y)) return same(rounded, y);
  const double error = std::abs(static_cast<double>(rounded) - y);
  const uint32_t next_bits = bits + (1u << 16);
  float next;
  std::memcpy(&next, &next_bits, sizeof next);
  return error <= (std::abs(static_cast<double>(next)) - std::abs(static_cast<double>(rounded))) / 2 || std::isinf(rounded);
}

// Words that are not what their bytes say.
int64_t packs_wrong() {
  int64_t wrong = 0;
  for (int64_t words : {1, 2, 7, 100}) {
    Guarded<uint8_t> bytes(32 * words);
    Guarded<uint32_t> one(words), other(words);
    for (int64_t i = 0; i < bytes.size(); i++) bytes[i] = static_cast<uint8_t>(any(0, 1));
    pack(bytes.data(), words, one.data());
    pack_portable(bytes.data(), words, other.data());
    for (int64_t i = 0; i < bytes.size(); i++) wrong += (one[i / 32] >> i % 32 & 1) != bytes[i];
    for (int64_t i = 0; i < words; i++) wrong += one[i] != other[i];
  }
  return wrong;
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t problems = argc > 1 ? std::atoll(argv[1]) : 200;
  random_bits.seed(argc > 2 ? static_cast<unsigned>(std::atoll(argv[2])) : 1);
  int64_t wrong = packs_wrong(), checked[kPaths] = {};
  for (int64_t problem = 0; problem < problems; problem++) {
    const Random r(false);
    Words p{};
    r.describe(p);
    p.used = any(0, 1) ? ~0u : (1u << any(1, 31)) - 1;
    p.up = static_cast<int32_t>(any(0, 1)), p.down = p.up ? 0 : static_cast<int32_t>(any(0, 1)),
    p.ones = static_cast<int32_t>(any(-1, 2));
    Guarded<uint32_t> x(p.images * p.x_image), w(p.rows * p.features);
    for (int64_t i = 0; i < x.size(); i++) x[i] = random_bits();
    for (int64_t i = 0; i < w.size(); i++) w[i] = random_bits();
    for (int64_t row = p.words - 1; row < p.rows; row += p.words)
      for (int64_t o = 0; o < p.features; o++) w[row * p.features + o] &= p.used;
    Guarded<int32_t> channel(p.box_count * p.features), threshold(p.features);
    for (int64_t i = 0; i < channel.size(); i++) channel[i] = static_cast<int32_t>(any(-1000, 1000));
    Guarded<float> scale(p.features), bias(p.features);
    Guarded<uint8_t> flip(p.features);
    const float inf = std::numeric_limits<float>::infinity(), strange[] = {0.f, -0.f, inf, -inf, std::nanf(""), 1e38f};
    for (int64_t o = 0; o < p.features; o++) {
      scale[o] = any(0, 9) ? std::normal_distribution<float>()(random_bits) : strange[any(0, 5)];
      bias[o] = any(0, 9) ? std::normal_distribution<float>(0, 50)(random_bits) : strange[any(0, 5)];
      threshold[o] = static_cast<int32_t>(any(0, 9) ? any(-300, 300) : any(0, 1) ? INT32_MIN : INT32_MAX);
      flip[o] = static_cast<uint8_t>(any(0, 1));
    }
    p.leaves = static_cast<Leaves>(any(0, 3));
    if (p.leaves == Leaves::kBits && p.groups > 1 && r.per_group % 32) p.leaves = Leaves::kSums;
    p.scale = any(0, 1) ? scale.data() : nullptr, p.bias = any(0, 1) ? bias.data() : nullptr;
    p.low = any(0, 1) ? -inf : -20.f, p.high = any(0, 1) ? inf : 30.f;
    p.threshold = threshold.data(), p.flip = flip.data();
    p.x = x.data(), p.w = w.data(), p.channel = channel.data();
    const int64_t bytes =
        p.leaves == Leaves::kBits ? (p.features + 31) / 32 * 4 : p.features * (p.leaves == Leaves::kBfloats ? 2 : 4);
    for (int32_t path = 0; path < kPaths; path++) {
      if (!can_run(path)) continue;
      Guarded<uint8_t> y(p.images * p.y_image * bytes);
      std::memset(y.data(), 0xa5, static_cast<size_t>(y.size()));
      p.y = y.data();
      Guarded<uint8_t> prepared(any(0, 1) ? prepared_size(path, p) : 0);
      if (prepared.size()) prepare_kernel(path, p, prepared.data());
      p.prepared = prepared.size() ? prepared.data() : nullptr;
      const int64_t threads = any(0, 1) ? 1 : any(2, 5);
      {
        Pool pool(threads);
        correlate(path, pool, p, threads);
      }
      for (int64_t b = 0; b < p.box_count; b++) {
        const Box& box = r.boxes[b];
        for (int64_t check = 0; check < 60; check++) {
          const int64_t at[kAxes] = {any(0, box.axis[0].count - 1), any(0, box.axis[1].count - 1), any(0, box.axis[2].count - 1)};
          const int64_t n = any(0, p.images - 1), o = check ? any(0, p.features - 1) : p.features - 1;
          int64_t row = n * p.y_image + box.y_start;
          for (int a = 0; a < kAxes; a++) row += at[a] * box.axis[a].y_step;
          if (!right(p, row, o, naive(p, box, n, at, o, channel[b * p.features + o])) && wrong++ < 10)
            std::printf("wrong: path %d, problem %lld, box %lld, channel %lld, leaves %d\n", path,
                        static_cast<long long>(problem), static_cast<long long>(b), static_cast<long long>(o),
                        static_cast<int>(p.leaves));
          checked[path]++;
        }
      }
    }
  }
  for (int32_t path = 0; path < kPaths; path++)
    if (checked[path]) std::printf("%s: %lld results checked\n", kNames[path], static_cast<long long>(checked[path]));
  std::printf("%lld wrong\n", static_cast<long long>(wrong));
  return wrong != 0;
}
