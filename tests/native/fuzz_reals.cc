// Random products of reals with words on every path that this processor can run, against plain loops: bytes exactly, floats
// within the error of their sums, nothing read or written outside the arrays, on one thread and on several.
//
//     fuzz_reals [problems] [seed]
#include <cmath>
#include <cstdio>
#include <limits>

#include "drawn.h"
#include "guarded.h"

using namespace jbnn;

namespace {

double real_of(const Reals& p, int64_t i) {
  switch (p.real) {
    case Real::kFloat: return static_cast<const float*>(p.x)[i];
    case Real::kInt8: return static_cast<const int8_t*>(p.x)[i];
    case Real::kUint8: return static_cast<const uint8_t*>(p.x)[i];
    case Real::kBfloat: break;
  }
  const uint32_t bits = uint32_t{static_cast<const uint16_t*>(p.x)[i]} << 16;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

struct Sum {
  double u, size;  // size: of the absolute values
};

Sum naive(const Reals& p, const Box& box, int64_t n, const int64_t* at, int64_t o, double term) {
  Sum sum{term, std::abs(term)};
  for (int64_t i = 0; i < box.axis[0].taps; i++)
    for (int64_t j = 0; j < box.axis[1].taps; j++)
      for (int64_t k = 0; k < box.axis[2].taps; k++) {
        const int64_t tap[kAxes] = {i, j, k};
        int64_t x = n * p.x_image + box.x_start + o / p.features_per_group() * p.pixel, w = box.w_start;
        for (int a = 0; a < kAxes; a++) {
          x += at[a] * box.axis[a].x_step + tap[a] * box.axis[a].x_tap;
          w += tap[a] * box.axis[a].w_tap;
        }
        for (int64_t c = 0; c < p.pixel; c++) {
          const double real = real_of(p, x + c);
          sum.u += p.w[(w + c / 32) * p.features + o] >> c % 32 & 1 ? real : -real;
          sum.size += std::abs(real);
        }
      }
  return sum;
}

// Roundings of the sum, of scale and of bias, and to the type that leaves.
bool close(double y, double expected, double error) {
  if (std::isnan(expected)) return std::isnan(y);
  if (std::isinf(expected)) return y == expected || std::isnan(y);
  return std::abs(y - expected) <= error;
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t problems = argc > 1 ? std::atoll(argv[1]) : 200;
  random_bits.seed(argc > 2 ? static_cast<unsigned>(std::atoll(argv[2])) : 1);
  const float inf = std::numeric_limits<float>::infinity();
  int64_t wrong = 0, checked[kPaths] = {};
  for (int64_t problem = 0; problem < problems; problem++) {
    const Random r(true);
    Reals p{};
    r.describe(p);
    p.real = static_cast<Real>(any(0, 3));
    const bool floats = p.real == Real::kFloat || p.real == Real::kBfloat;
    const int64_t width = p.real == Real::kFloat ? 4 : p.real == Real::kBfloat ? 2 : 1, size = p.images * p.x_image;
    Guarded<uint8_t> x(size * width);
    const bool extreme = any(0, 4) == 0;
    for (int64_t i = 0; i < size; i++) {
      const float value = any(0, 30000) ? std::normal_distribution<float>()(random_bits) : any(0, 1) ? inf : std::nanf("");
      if (p.real == Real::kFloat) std::memcpy(x.data() + 4 * i, &value, 4);
      if (p.real == Real::kBfloat) std::memcpy(x.data() + 2 * i, reinterpret_cast<const char*>(&value) + 2, 2);
      if (!floats) x[i] = static_cast<uint8_t>(extreme ? (p.real == Real::kInt8 ? 128 : 255) : random_bits());
    }
    Guarded<uint32_t> w(p.rows * p.features);
    for (int64_t i = 0; i < w.size(); i++) w[i] = extreme && any(0, 2) ? ~0u : static_cast<uint32_t>(random_bits());
    Guarded<int32_t> integers(p.box_count * p.features);
    Guarded<float> reals(p.box_count * p.features), scale(p.features), bias(p.features);
    for (int64_t i = 0; i < integers.size(); i++) reals[i] = static_cast<float>(integers[i] = static_cast<int32_t>(any(-99, 99)));
    for (int64_t o = 0; o < p.features; o++) {
      scale[o] = std::normal_distribution<float>()(random_bits);
      bias[o] = std::normal_distribution<float>()(random_bits);
    }
    const bool with_channel = any(0, 1);
    p.leaves = static_cast<Leaves>(any(0, 2));
    p.scale = any(0, 1) ? scale.data() : nullptr, p.bias = any(0, 1) ? bias.data() : nullptr;
    p.low = any(0, 1) ? -inf : -20.f, p.high = any(0, 1) ? inf : 30.f;
    p.x = x.data(), p.w = w.data();
    p.channel = !with_channel ? nullptr : floats ? static_cast<const void*>(reals.data()) : integers.data();
    for (int32_t path = 0; path < kPaths; path++) {
      if (!can_run(path)) continue;
      Guarded<uint8_t> y(p.images * p.y_image * p.features * (p.leaves == Leaves::kBfloats ? 2 : 4));
      std::memset(y.data(), 0xa5, static_cast<size_t>(y.size()));
      p.y = y.data();
      {
        const int64_t threads = any(0, 1) ? 1 : any(2, 5);
        Pool pool(threads);
        correlate(path, pool, p, threads);
      }
      for (int64_t b = 0; b < p.box_count; b++) {
        const Box& box = r.boxes[b];
        for (int64_t check = 0; check < 25; check++) {
          const int64_t at[kAxes] = {any(0, box.axis[0].count - 1), any(0, box.axis[1].count - 1), any(0, box.axis[2].count - 1)};
          const int64_t n = any(0, p.images - 1), o = check ? any(0, p.features - 1) : p.features - 1;
          int64_t row = n * p.y_image + box.y_start;
          for (int a = 0; a < kAxes; a++) row += at[a] * box.axis[a].y_step;
          const Sum sum = naive(p, box, n, at, o, with_channel ? integers[b * p.features + o] : 0);
          const int64_t i = row * p.features + o;
          bool right;
          if (p.leaves == Leaves::kSums && !floats) {
            right = static_cast<int32_t*>(p.y)[i] == sum.u;
          } else {
            double expected = sum.u, error = floats ? sum.size * 3e-6 : std::abs(sum.u) * 1e-7;
            if (p.leaves != Leaves::kSums) {
              if (p.scale) expected *= p.scale[o], error *= std::abs(p.scale[o]);
              if (p.bias) expected += p.bias[o];
              error += std::abs(expected) * 1e-6 + 1e-6;
              expected = expected < p.low ? p.low : expected > p.high ? p.high : expected;
            }
            double leaves;
            if (p.leaves == Leaves::kBfloats) {
              const uint32_t bits = uint32_t{static_cast<uint16_t*>(p.y)[i]} << 16;
              float rounded;
              std::memcpy(&rounded, &bits, sizeof bits);
              leaves = rounded, error += std::abs(expected) / 256;
            } else {
              leaves = static_cast<float*>(p.y)[i];
            }
            right = close(leaves, expected, error);
          }
          if (!right && wrong++ < 10)
            std::printf("wrong: path %d, problem %lld, box %lld, channel %lld, real %d, leaves %d\n", path,
                        static_cast<long long>(problem), static_cast<long long>(b), static_cast<long long>(o),
                        static_cast<int>(p.real), static_cast<int>(p.leaves));
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
