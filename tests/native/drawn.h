// What is drawn: boxes of any kind inside an image, and a pool whose threads may be late.
#pragma once
#include <deque>
#include <functional>
#include <random>
#include <thread>

#include "../../jbnn/_native/paths.h"

namespace jbnn {

inline std::mt19937 random_bits;
inline int64_t any(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_bits); }
inline int64_t often(int64_t usual, int64_t low, int64_t high) { return any(0, 2) ? usual : any(low, high); }

// A pool like XLA's. One whose threads start late, or not before the call is over, must change nothing.
class Pool {
 public:
  explicit Pool(int64_t threads) : threads_(threads) {}
  ~Pool() {
    for (std::thread& thread : running_) thread.join();
    for (const auto& task : late_) task();
  }
  template <class Task>
  void Schedule(Task task) {
    if (any(0, 3))
      running_.emplace_back(std::move(task));
    else
      late_.push_back(std::move(task));
  }
  int64_t num_threads() const { return threads_; }

 private:
  int64_t threads_;
  std::deque<std::thread> running_;
  std::vector<std::function<void()>> late_;
};

struct Random {
  std::vector<Box> boxes;
  int64_t images, groups, words, pixel, per_group, x_image, y_image = 0, rows;

  // Pixels of words, or of reals, of which 32 meet a word and the last may meet fewer.
  explicit Random(bool of_reals) {
    images = any(1, 3), groups = often(1, 2, 3), words = often(any(1, 4), 5, 40), per_group = often(any(1, 70), 71, 300);
    rows = words * any(1, 12);
    const bool deep = any(0, 15) == 0;
    if (deep) words = of_reals ? any(256, 300) : any(300, 700), rows = words, per_group = any(1, 40);
    pixel = of_reals ? often(32 * words, 32 * words - 31, 32 * words) : words;
    const int64_t size = pixel * groups;
    x_image = size * any(1, of_reals ? (deep ? 3 : 40) : 200);
    const int64_t count = any(1, 4);
    for (int64_t i = 0; i < count; i++) boxes.push_back(box(size));
  }

  void describe(Problem& p) const {
    p.images = images, p.groups = groups, p.words = words, p.pixel = pixel, p.rows = rows, p.features = per_group * groups;
    p.x_image = x_image, p.y_image = y_image, p.box_count = static_cast<int64_t>(boxes.size()), p.boxes = boxes.data();
  }

  Box box(int64_t size) {
    Box b{};
    int64_t x_room = x_image / size - 1;  // steps that are left
    b.x_start = static_cast<int32_t>(spend(x_room) * size);
    const int64_t taps = rows / words, skipped = any(0, std::min<int64_t>(taps - 1, 2));
    int64_t span = 1;  // of the axes so far: no tap is another axis's
    b.w_start = static_cast<int32_t>(skipped * words);
    b.y_start = static_cast<int32_t>(y_image);
    int32_t y_step = 1;
    for (int axis = kAxes - 1; axis >= 0; axis--) {
      Axis& a = b.axis[axis];
      std::tie(a.count, a.x_step) = steps(x_room, size);
      a.taps = static_cast<int32_t>(any(1, std::min<int64_t>((taps - skipped) / span, 4)));
      const int64_t apart = span * a.taps + a.taps - 1 <= taps - skipped && any(0, 3) == 0 ? span + 1 : span;
      a.w_tap = static_cast<int32_t>(apart * words);
      span += apart * (a.taps - 1);
      a.x_tap = 0;
      if (a.taps > 1) {
        const int64_t most = x_room / (a.taps - 1), step = std::min<int64_t>(most, any(0, 3));
        x_room -= step * (a.taps - 1);
        a.x_tap = static_cast<int32_t>(step * size);
      }
      a.y_step = y_step;
      y_step *= a.count;
    }
    if (any(0, 20) == 0) b.axis[1].taps = 0;  // a window of which nothing is live
    y_image += b.positions();
    return b;
  }

  static int64_t spend(int64_t& room) {
    const int64_t some = any(0, std::min<int64_t>(room, 3));
    room -= some;
    return some;
  }
  // So many, and how far apart, as the room allows; none are at the same place.
  static std::pair<int32_t, int32_t> steps(int64_t& room, int64_t unit) {
    const int64_t step = any(1, 3), count = any(1, std::min<int64_t>(room / step + 1, any(0, 3) ? 9 : 90));
    room -= step * (count - 1);
    return {static_cast<int32_t>(count), static_cast<int32_t>(step * unit)};
  }
};

}  // namespace jbnn
