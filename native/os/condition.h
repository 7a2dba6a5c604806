// A condition variable on the monotonic clock. std::condition_variable::wait is exported anew by the libstdc++ of GCC
// 12 (GLIBCXX_3.4.30); whoever calls it does not load on the hosts of scripts/check-glibc.mjs that have an older one.
#pragma once

#include <pthread.h>
#include <time.h>

#include <cerrno>
#include <chrono>
#include <mutex>

namespace uffd {

class Condition {
 public:
  using Time = timespec;

  static Time after(std::chrono::milliseconds time) {
    Time moment;
    ::clock_gettime(CLOCK_MONOTONIC, &moment);
    auto nanoseconds = moment.tv_nsec + time.count() % 1000 * 1000000;
    moment.tv_sec += time.count() / 1000 + nanoseconds / 1000000000;
    moment.tv_nsec = nanoseconds % 1000000000;
    return moment;
  }

  Condition() {
    pthread_condattr_t attributes;
    ::pthread_condattr_init(&attributes);
    ::pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    ::pthread_cond_init(&condition_, &attributes);
    ::pthread_condattr_destroy(&attributes);
  }
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;
  ~Condition() { ::pthread_cond_destroy(&condition_); }

  void notify_all() { ::pthread_cond_broadcast(&condition_); }

  template <typename Holds>
  void wait(std::unique_lock<std::mutex>& lock, Holds holds) {
    while (!holds()) ::pthread_cond_wait(&condition_, lock.mutex()->native_handle());
  }

  // Whether it holds; false only once the time has passed.
  template <typename Holds>
  bool wait_for(std::unique_lock<std::mutex>& lock, std::chrono::milliseconds time, Holds holds) {
    return wait_until(lock, after(time), holds);
  }
  template <typename Holds>
  bool wait_until(std::unique_lock<std::mutex>& lock, const Time& deadline, Holds holds) {
    while (!holds()) {
      int error = ::pthread_cond_timedwait(&condition_, lock.mutex()->native_handle(), &deadline);
      if (error == ETIMEDOUT) return holds();
    }
    return true;
  }

 private:
  pthread_cond_t condition_;
};

}  // namespace uffd
