// eventfd(2): how one thread wakes another that waits in a FaultQueue.
#pragma once

#include <sys/eventfd.h>

#include "unique_fd.h"

namespace uffd::event_fd {

inline Result<UniqueFd> create() {
  int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return Result<UniqueFd>::from_errno();
  return UniqueFd(fd);
}

inline int signal(int fd) {
  uint64_t one = 1;
  // EAGAIN: the counter is full, so the waiter has been told already.
  if (::write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN) return -errno;
  return 0;
}

inline void clear(int fd) {
  uint64_t count;
  [[maybe_unused]] ssize_t ignored = ::read(fd, &count, sizeof(count));
}

}  // namespace uffd::event_fd
