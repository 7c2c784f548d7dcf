// The paths that this build has, which of them the processor can run, and a correlation on one of them.
#pragma once
#include "count_portable.h"
#include "reals_portable.h"
#include "threads.h"
#if defined(__x86_64__)
#include "bytes_avx2.h"
#include "bytes_avx512.h"
#include "count_avx512.h"
#include "pairs_path_avx2.h"
#include "reals_avx2.h"
#include "reals_avx512.h"
#elif defined(__aarch64__)
#include "count_neon.h"
#endif

namespace jbnn {

enum Path : int32_t { kPortable, kAvx2, kAvx512, kNeon, kPaths };
constexpr const char* kNames[kPaths] = {"portable", "avx2", "avx512", "neon"};

inline bool can_run(int32_t path) {
  switch (path) {
    case kPortable: return true;
#if defined(__x86_64__)
    case kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
             __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
    case kAvx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vpopcntdq") && can_run(kAvx2);
#elif defined(__aarch64__)
    case kNeon: return true;
#endif
    default: return false;
  }
}

// Units of a problem, each by `run`, which has scratch memory of its own on every thread.
template <class Pool, class MakeRun>
void share(Pool& pool, const Problem& p, Shape shape, int64_t threads, const MakeRun& make_run) {
  const Units units(p, shape, threads);
  const int64_t count = units.size();
  share_out(pool, std::min(threads, count) - 1, count, [&](auto next) {
    auto run = make_run();
    for (int64_t i; (i = next()) < count;) run(units, units[i]);
  });
}

template <class Kernel, Leaves L, class Pool>
void count(Pool& pool, const Words& p, int64_t threads) {
  share(pool, p, Kernel::shape(p), threads, [&] {
    return [&p, scratch = std::make_unique<typename Kernel::Scratch>(p)](const Units& units, const Unit& unit) {
      Kernel::template run<L>(p, units, unit, *scratch);
    };
  });
}

template <class Kernel, Leaves L, class Sum, class Pool>
void multiply(Pool& pool, const Reals& p, int64_t threads) {
  constexpr Shape kShape{48, Kernel::kRows, kRealPanel};
  share(pool, p, kShape, threads, [&] {
    return [&p, scratch = std::make_unique<RealScratch<Sum>>(p, kShape.positions, kShape.tile)](
               const Units& units, const Unit& unit) { run_reals<Kernel, L, Sum>(p, units, unit, *scratch); };
  });
}

template <class Kernel, class Pool>
void correlate_by(Pool& pool, const Words& p, int64_t threads) {
  switch (p.leaves) {
    case Leaves::kSums: return count<Kernel, Leaves::kSums>(pool, p, threads);
    case Leaves::kFloats: return count<Kernel, Leaves::kFloats>(pool, p, threads);
    case Leaves::kBfloats: return count<Kernel, Leaves::kBfloats>(pool, p, threads);
    case Leaves::kBits: return count<Kernel, Leaves::kBits>(pool, p, threads);
  }
}

template <class Kernel, class Sum, class Pool>
void multiply_to(Pool& pool, const Reals& p, int64_t threads) {
  switch (p.leaves) {
    case Leaves::kSums: return multiply<Kernel, Leaves::kSums, Sum>(pool, p, threads);
    case Leaves::kFloats: return multiply<Kernel, Leaves::kFloats, Sum>(pool, p, threads);
    default: return multiply<Kernel, Leaves::kBfloats, Sum>(pool, p, threads);
  }
}

template <class Kernel, class Bytes, class Pool>
void correlate_by(Pool& pool, const Reals& p, int64_t threads) {
  if (p.real == Real::kFloat || p.real == Real::kBfloat) return multiply_to<Kernel, float>(pool, p, threads);
  multiply_to<Bytes, int32_t>(pool, p, threads);
}

template <class Pool>
void correlate(int32_t path, Pool& pool, const Words& p, int64_t threads) {
  switch (path) {
#if defined(__x86_64__)
    case kAvx2: return correlate_by<pairs_avx2::Path>(pool, p, threads);
    case kAvx512: return correlate_by<count_avx512::Path>(pool, p, threads);
#elif defined(__aarch64__)
    case kNeon: return correlate_by<count_neon::Path>(pool, p, threads);
#endif
    default: return correlate_by<count_portable::Path>(pool, p, threads);
  }
}

template <class Pool>
void correlate(int32_t path, Pool& pool, const Reals& p, int64_t threads) {
  switch (path) {
#if defined(__x86_64__)
    case kAvx2: return correlate_by<reals_avx2::Path, bytes_avx2::Path>(pool, p, threads);
    case kAvx512: return correlate_by<reals_avx512::Path, bytes_avx512::Path>(pool, p, threads);
#endif
    default: return correlate_by<reals_portable::Path, reals_portable::Path>(pool, p, threads);
  }
}

inline int64_t prepared_size([[maybe_unused]] int32_t path, [[maybe_unused]] const Words& p) {
#if defined(__x86_64__)
  if (path == kAvx2) return pairs_avx2::Path::prepared_size(p);
#endif
  return 0;
}

inline void prepare_kernel([[maybe_unused]] int32_t path, [[maybe_unused]] const Words& p, [[maybe_unused]] uint8_t* out) {
#if defined(__x86_64__)
  if (path == kAvx2) pairs_avx2::Path::prepare(p, out);
#endif
}

}  // namespace jbnn
