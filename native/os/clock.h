// clock_gettime(2) as one number.
#pragma once

#include <time.h>

#include <cstdint>

namespace uffd {

inline uint64_t clock_ns(clockid_t clock = CLOCK_MONOTONIC) {
  timespec time;
  ::clock_gettime(clock, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1000000000ULL + static_cast<uint64_t>(time.tv_nsec);
}

}  // namespace uffd
