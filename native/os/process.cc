#include "process.h"

#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

#include "../uapi/system_calls.h"
#include "thread.h"

namespace uffd::process {

int send_signal(int pidfd, int signal) {
  return zero_or_errno(::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0));
}

int set_affinity(const std::vector<int>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int cpu : cpus) {
    if (cpu < 0 || cpu >= CPU_SETSIZE) return -EINVAL;
    CPU_SET(cpu, &set);
  }
  return zero_or_errno(::sched_setaffinity(0, sizeof(set), &set));
}

std::vector<int> affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

void close_detached(int fd) { close_detached(std::vector<int>{fd}); }

void close_detached(std::vector<int> fds) {
  Thread thread;
  // At the limit of threads the descriptors stay open: that is less harm than a server that hangs in close(2).
  thread.start([fds = std::move(fds)] {
    for (int fd : fds) ::close(fd);
  });
  thread.detach();
}

int exit_within(int milliseconds, int status) {
  Thread thread;
  int error = thread.start([milliseconds, status] {
    timespec left{milliseconds / 1000, milliseconds % 1000 * 1000000L};
    while (::nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
    ::_exit(status);
  });
  thread.detach();
  return error;
}

}  // namespace uffd::process
