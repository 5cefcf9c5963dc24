// InlineVector: a vector of at most N elements that lie in the object itself, so that copying a small list allocates
// nothing. The interface is the part of std::vector that Takt uses.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>

#include "core/base/error.h"

namespace takt {

template <class T, std::size_t N>
class InlineVector {
 public:
  using value_type = T;
  using iterator = T*;
  using const_iterator = const T*;

  InlineVector() = default;
  explicit InlineVector(std::size_t size, const T& value = T()) { resize(size, value); }
  InlineVector(std::initializer_list<T> items) : InlineVector(items.begin(), items.end()) {}
  template <std::input_iterator Iterator>
  InlineVector(Iterator first, Iterator last) {
    for (; first != last; ++first) push_back(*first);
  }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T* begin() { return items_.data(); }
  T* end() { return items_.data() + size_; }
  const T* begin() const { return items_.data(); }
  const T* end() const { return items_.data() + size_; }
  const T* data() const { return items_.data(); }
  T& operator[](std::size_t i) { return items_[i]; }
  const T& operator[](std::size_t i) const { return items_[i]; }
  const T& at(std::size_t i) const {
    TAKT_ASSERT(i < size_, "inline vector of ", size(), " has no element ", i);
    return items_[i];
  }
  T& front() { return items_[0]; }
  const T& front() const { return items_[0]; }
  T& back() { return items_[size_ - 1u]; }
  const T& back() const { return items_[size_ - 1u]; }

  // Each throws kBug where more than N elements would be held.
  void push_back(const T& item) {
    require_room(size_ + 1u);
    items_[size_++] = item;
  }
  void resize(std::size_t size, const T& value = T()) {
    require_room(size);
    for (std::size_t i = size_; i < size; ++i) items_[i] = value;
    size_ = static_cast<std::uint32_t>(size);
  }
  T* insert(const T* position, const T& item) { return insert(position, &item, &item + 1); }
  T* insert(const T* position, std::initializer_list<T> items) {
    return insert(position, items.begin(), items.end());
  }
  template <std::forward_iterator Iterator>
  T* insert(const T* position, Iterator first, Iterator last) {
    const auto index = static_cast<std::size_t>(position - begin());
    const auto count = static_cast<std::size_t>(std::distance(first, last));
    const InlineVector tail(begin() + index, end(), Unchecked());
    require_room(size_ + count);
    std::copy(first, last, begin() + index);
    std::copy(tail.begin(), tail.end(), begin() + index + count);
    size_ = static_cast<std::uint32_t>(size_ + count);
    return begin() + index;
  }
  T* erase(const T* position) {
    const auto index = position - begin();
    std::copy(begin() + index + 1, end(), begin() + index);
    --size_;
    return begin() + index;
  }
  void clear() { size_ = 0; }

  friend bool operator==(const InlineVector& a, const InlineVector& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  struct Unchecked {};
  InlineVector(const T* first, const T* last, Unchecked) : size_(static_cast<std::uint32_t>(last - first)) {
    std::copy(first, last, items_.data());
  }
  static void require_room(std::size_t size) {
    TAKT_ASSERT(size <= N, "inline vector holds at most ", N, " elements, asked for ", size);
  }

  std::array<T, N> items_ = {};
  std::uint32_t size_ = 0;
};

}  // namespace takt
