// A value or an errno. native/os never throws and never logs: the caller decides what an errno
// means.
#pragma once

#include <cerrno>
#include <utility>

namespace uffd {

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  static Result failure(int error) { return Result(error, Failed{}); }
  static Result from_errno() { return failure(errno); }

  bool ok() const { return error_ == 0; }
  int error() const { return error_; }
  T& value() { return value_; }
  T take() { return std::move(value_); }

 private:
  struct Failed {};
  Result(int error, Failed) : error_(error) {}
  T value_{};
  int error_ = 0;
};

// For calls with nothing to hand back: 0 or a negative errno, the kernel's own convention.
inline int zero_or_errno(long returned) { return returned < 0 ? -errno : 0; }

}  // namespace uffd
