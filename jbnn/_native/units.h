// The work of a problem cut into units: some positions, of one box or of several, and some output channels of one group.
#pragma once
#include <algorithm>

#include "problem.h"

#define JBNN_INLINE inline __attribute__((always_inline))

namespace jbnn {

// Positions of one box, counted through all images.
struct Part {
  const Box* box;
  int64_t number;  // of the box
  int64_t first, last;

  int64_t size() const { return last - first; }
};

struct Unit {
  int64_t group;
  int64_t first, last;                  // positions, counted through all boxes
  int64_t first_channel, last_channel;  // of the group
};

// How a path likes its units: of at most so many positions, a multiple of `tile`, and of whole panels of channels.
struct Shape {
  int64_t positions, tile, panel;
};

class Units {
 public:
  Units(const Problem& problem, Shape shape, int64_t threads) : problem_(problem), panel_(shape.panel) {
    for (int64_t i = 0; i < problem.box_count; i++)
      starts_.push_back(starts_.back() + problem.images * problem.boxes[i].positions());
    panels_ = (problem.features_per_group() + panel_ - 1) / panel_;
    positions_ = std::min(shape.positions, starts_.back());
    const int64_t wanted = threads > 1 ? 4 * threads : 1;  // so that the last ones end together
    while (positions_ > shape.tile && blocks() * panels_ * problem.groups < wanted)
      positions_ = (positions_ / 2 + shape.tile - 1) / shape.tile * shape.tile;
    parts_ = std::clamp<int64_t>((wanted + blocks() * problem.groups - 1) / (blocks() * problem.groups), 1, panels_);
  }

  int64_t size() const { return blocks() * parts_ * problem_.groups; }

  Unit operator[](int64_t i) const {
    const int64_t block = i % blocks(), part = i / blocks() % parts_;
    Unit u;
    u.group = i / (blocks() * parts_);
    u.first = block * positions_;
    u.last = std::min(u.first + positions_, starts_.back());
    u.first_channel = part * panels_ / parts_ * panel_;
    u.last_channel = std::min((part + 1) * panels_ / parts_ * panel_, problem_.features_per_group());
    return u;
  }

  // The part of a unit that begins at one of its positions.
  Part part(const Unit& unit, int64_t position) const {
    const int64_t box = std::upper_bound(starts_.begin(), starts_.end(), position) - starts_.begin() - 1;
    const int64_t last = std::min(unit.last, starts_[box + 1]);
    return {problem_.boxes + box, box, position - starts_[box], last - starts_[box]};
  }

 private:
  int64_t blocks() const { return (starts_.back() + positions_ - 1) / positions_; }

  const Problem& problem_;
  int64_t panel_, panels_, positions_, parts_;
  std::vector<int64_t> starts_{0};  // of the positions of each box, and their end
};

// Where a window begins in x, and which position among those of all images gets what leaves.
struct Window {
  int64_t x, y;
  int32_t pixel;  // its term
};

inline void windows_of(const Problem& p, const Part& part, int64_t group, Window* out) {
  const Box& box = *part.box;
  const Axis &a = box.axis[0], &b = box.axis[1], &c = box.axis[2];
  Window* const end = out + part.size();
  const int64_t row = part.first / c.count;
  int64_t k = part.first % c.count, j = row % b.count, i = row / b.count % a.count, n = row / b.count / a.count;
  while (out != end) {
    int64_t x = group * p.pixel + n * p.x_image + box.x_start + i * a.x_step + j * b.x_step + k * c.x_step;
    int64_t y = n * p.y_image + box.y_start + i * a.y_step + j * b.y_step + k * c.y_step;
    const int64_t count = std::min<int64_t>(c.count - k, end - out);  // along the last axis
    for (Window* const stop = out + count; out != stop; out++, x += c.x_step, y += c.y_step) *out = {x, y, 0};
    k = 0;
    if (++j == b.count) j = 0, i++;
    if (i == a.count) i = 0, n++;
  }
}

}  // namespace jbnn
