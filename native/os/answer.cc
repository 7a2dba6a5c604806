#include "answer.h"

#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "guarded_access.h"
#include "userfaultfd.h"

namespace uffd {

namespace {

struct Copy {
  void* target;
  const void* source;
  uint64_t length;
};

void copy_bytes(void* argument) {
  const auto* copy = static_cast<const Copy*>(argument);
  std::memcpy(copy->target, copy->source, copy->length);
}

// Where there is no process_vm_writev(2): without CONFIG_CROSS_MEMORY_ATTACH, and under some seccomp filters.
int64_t copy_guarded(void* target, uint64_t source, uint64_t length) {
  GuardedAccess::install_handlers();
  Copy copy{target, reinterpret_cast<const void*>(source), length};
  GuardedAccess access;
  return access.run(copy_bytes, &copy).kind == AccessOutcome::kDone ? static_cast<int64_t>(length) : -EFAULT;
}

// SAFETY: the kernel checks both ranges (EFAULT); the target lies in a mapping that cannot shrink, checked here.
int64_t write_memory(const Mapping& memory, uint64_t source, uint64_t length, uint64_t offset) {
  if (memory.data() == nullptr) return -EBADF;
  if (!memory.contains(offset, length)) return -EFAULT;
  iovec from{reinterpret_cast<void*>(source), length};
  iovec to{memory.data() + offset, length};
  ssize_t written = ::process_vm_writev(::getpid(), &from, 1, &to, 1, 0);
  if (written < 0 && (errno == ENOSYS || errno == EPERM)) return copy_guarded(to.iov_base, source, length);
  return written < 0 ? -errno : written;
}

}  // namespace

double Answer::give(const double* row, int fd, const Mapping* memory) {
  uint64_t mode = static_cast<uint64_t>(row[kMode]) & ~kLink;
  uint64_t start = static_cast<uint64_t>(row[kStart]);
  uint64_t length = static_cast<uint64_t>(row[kLength]);
  uint64_t source = static_cast<uint64_t>(row[kSource]);
  auto number = [](int64_t result) { return static_cast<double>(result); };
  auto done = [length](int returned) {
    return static_cast<double>(returned < 0 ? returned : static_cast<int64_t>(length));
  };
  switch (static_cast<int>(row[kOp])) {
    case kContinue:
      return number(userfaultfd::continue_range(fd, start, length, mode));
    case kCopy:
      return number(userfaultfd::copy(fd, start, source, length, mode));
    case kZeropage:
      return number(userfaultfd::zeropage(fd, start, length, mode));
    case kPoison:
      return number(userfaultfd::poison(fd, start, length, mode));
    case kWake:
      return done(userfaultfd::wake(fd, start, length));
    case kWriteProtect:
      return number(userfaultfd::write_protect(fd, start, length, mode));
    case kWrite:
      return memory == nullptr ? -EBADF
                               : number(write_memory(*memory, source, length, static_cast<uint64_t>(row[kOffset])));
    case kUnregister:
      return done(userfaultfd::unregister_range(fd, start, length));
    case kMove:
      return number(userfaultfd::move(fd, start, source, length, mode));
    case kRwProtect:
      return number(userfaultfd::rw_protect(fd, start, length, mode));
    default:
      return -EINVAL;
  }
}

}  // namespace uffd
