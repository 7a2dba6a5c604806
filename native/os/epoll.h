// epoll_ctl(2) with a number for each descriptor.
#pragma once

#include <sys/epoll.h>

#include <cstdint>

#include "result.h"

namespace uffd {

inline int listen_to(int epoll, int fd, uint64_t token) {
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = token;
  return zero_or_errno(::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

}  // namespace uffd
