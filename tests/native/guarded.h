// Arrays that end where memory ends: a page that may not be touched follows each, and another lies before it.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

template <class T>
class Guarded {
 public:
  explicit Guarded(int64_t size) : size_(size) {
    const int64_t page = sysconf(_SC_PAGESIZE);
    const int64_t bytes = (size * static_cast<int64_t>(sizeof(T)) + page - 1) / page * page;
    length_ = bytes + 2 * page;
    base_ = static_cast<char*>(mmap(nullptr, length_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED || (bytes && mprotect(base_ + page, bytes, PROT_READ | PROT_WRITE))) std::abort();
    data_ = reinterpret_cast<T*>(base_ + page + bytes) - size;
  }
  ~Guarded() { munmap(base_, length_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* data() { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  int64_t size() const { return size_; }

 private:
  int64_t size_, length_;
  char* base_;
  T* data_;
};
