// Owned: a C handle that is released exactly once.
#pragma once

#include <utility>

namespace takt {

// Move-only. A moved-from or default Owned is empty and releases nothing.
template <class Handle, auto Release, Handle Empty = Handle{}>
class Owned {
 public:
  Owned() = default;
  explicit Owned(Handle handle) : handle_(handle) {}
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, Empty)) {}
  Owned& operator=(Owned&& other) noexcept {
    if (this != &other) {
      reset();
      handle_ = std::exchange(other.handle_, Empty);
    }
    return *this;
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() { reset(); }

  Handle get() const { return handle_; }
  explicit operator bool() const { return handle_ != Empty; }
  void reset() noexcept {
    if (handle_ != Empty) Release(std::exchange(handle_, Empty));
  }

 private:
  Handle handle_ = Empty;
};

}  // namespace takt
