// Units of work shared out over a pool of threads.
//
// Units are handed out by a counter. The caller works as well, and waits only for units that somebody has started: a pool
// that is busy, or that the caller itself belongs to, delays nothing. Nobody spins.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace jbnn {

// How floats are rounded and whether tiny ones are flushed, as the caller has set it.
struct FloatMode {
#if defined(__x86_64__)
  unsigned state = _mm_getcsr();
  void set() const { _mm_setcsr(state); }
#else
  void set() const {}
#endif
};

// work(next) takes units from next() until it gives one that is not below `units`.
template <class Pool, class Work>
void share_out(Pool& pool, int64_t helpers, int64_t units, const Work& work) {
  if (helpers <= 0 || units <= 1) {
    int64_t i = 0;
    work([&] { return i++; });
    return;
  }
  struct State {  // outlives the call where the pool starts a helper too late
    std::atomic<int64_t> next{0};
    int64_t working = 0;
    bool closed = false;
    std::mutex mutex;
    std::condition_variable idle;
  };
  auto state = std::make_shared<State>();
  const FloatMode mode;
  for (int64_t i = 0; i < helpers; i++)
    pool.Schedule([state, &work, mode] {
      {
        std::lock_guard<std::mutex> lock(state->mutex);
        if (state->closed) return;  // `work` may be gone
        state->working++;
      }
      const FloatMode own;
      mode.set();
      work([&] { return state->next.fetch_add(1, std::memory_order_relaxed); });
      own.set();
      std::lock_guard<std::mutex> lock(state->mutex);
      if (--state->working == 0) state->idle.notify_one();
    });
  work([&] { return state->next.fetch_add(1, std::memory_order_relaxed); });
  std::unique_lock<std::mutex> lock(state->mutex);
  state->closed = true;
  state->idle.wait(lock, [&] { return state->working == 0; });
}

}  // namespace jbnn
