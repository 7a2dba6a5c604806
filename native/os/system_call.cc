#include "system_call.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "../uapi/system_calls.h"

namespace uffd::system_call {

namespace {

struct Named {
  const char* name;
  long number;
};

constexpr Named kTable[] = {
    {"close", SYS_close},
    {"fallocate", SYS_fallocate},
    {"fcntl", SYS_fcntl},
    {"fstatfs", SYS_fstatfs},
    {"ftruncate", SYS_ftruncate},
    {"get_mempolicy", SYS_get_mempolicy},
    {"ioctl", SYS_ioctl},
    {"lseek", SYS_lseek},
    {"madvise", SYS_madvise},
    {"mbind", SYS_mbind},
    {"memfd_create", SYS_memfd_create},
    {"memfd_secret", SYS_memfd_secret},
    {"mlock", SYS_mlock},
    {"mmap", SYS_mmap},
    {"move_pages", SYS_move_pages},
    {"mremap", SYS_mremap},
    {"munlock", SYS_munlock},
    {"munmap", SYS_munmap},
    {"openat", SYS_openat},
    {"pidfd_open", SYS_pidfd_open},
    {"ppoll", SYS_ppoll},
    {"process_madvise", SYS_process_madvise},
    {"process_vm_readv", SYS_process_vm_readv},
    {"read", SYS_read},
    {"tgkill", SYS_tgkill},
    {"userfaultfd", SYS_userfaultfd},
    {"wait4", SYS_wait4},
    {"write", SYS_write},
};

}  // namespace

long number_of(const std::string& name) {
  for (const Named& named : kTable) {
    if (name == named.name) return named.number;
  }
  return -1;
}

int64_t call(long number, const uint64_t (&a)[kArguments]) {
  long returned = ::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  return returned == -1 ? -errno : returned;
}

int64_t fork_child(uint64_t touch) {
  pid_t parent = ::getpid();
  // Not fork(3): that holds the locks of malloc while it waits for its own EVENT_FORK to be read.
  long pid = ::syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (pid != 0) return pid < 0 ? -errno : pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The parent may have gone before the request above.
  if (::getppid() != parent) ::_exit(1);
  // SAFETY: an address the caller has mapped; a page of it that is not there is what the caller asks about.
  if (touch != 0) static_cast<void>(*reinterpret_cast<volatile const uint8_t*>(touch));
  while (touch == 0) ::pause();
  ::_exit(0);
}

}  // namespace uffd::system_call
