// Memory of our own: aligned for every register, and not initialised.
#pragma once
#include <cstddef>
#include <new>

namespace jbnn {

template <class T>
class Buffer {
 public:
  explicit Buffer(size_t size) : data_(static_cast<T*>(::operator new(size * sizeof(T), kAlignment))) {}
  ~Buffer() { ::operator delete(data_, kAlignment); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() { return data_; }
  T& operator[](size_t i) { return data_[i]; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  T* data_;
};

}  // namespace jbnn
