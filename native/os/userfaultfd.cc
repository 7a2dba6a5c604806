#include "userfaultfd.h"

#include <sys/mman.h>

#include "../uapi/system_calls.h"

namespace uffd::userfaultfd {

namespace {

constexpr int kOpenFlags = O_CLOEXEC | O_NONBLOCK;

Result<UniqueFd> open_device(int flags) {
  UniqueFd device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (!device.open()) return Result<UniqueFd>::from_errno();
  int fd = ::ioctl(device.get(), USERFAULTFD_IOC_NEW, flags);
  if (fd < 0) return Result<UniqueFd>::from_errno();
  return UniqueFd(fd);
}

// Argument-check failures, ESRCH and EFAULT leave the kernel's result field untouched, so it is
// preset to 0 and trusted only for EAGAIN, where a positive value is progress and anything else
// means that nothing was done.
int64_t outcome(int returned, int64_t done, uint64_t len) {
  if (returned == 0) return static_cast<int64_t>(len);
  int error = errno;
  if (error == EAGAIN && done > 0) return done;
  return -error;
}

// Of what read(2) returned.
int messages_in(ssize_t bytes) {
  if (bytes >= 0) return static_cast<int>(bytes / static_cast<ssize_t>(sizeof(uffd_msg)));
  return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

}  // namespace

Result<UniqueFd> open(bool user_mode_only, int* device_errno) {
  int flags = kOpenFlags | (user_mode_only ? UFFD_USER_MODE_ONLY : 0);
  Result<UniqueFd> device = open_device(flags);
  *device_errno = device.error();
  if (device.ok()) return device;
  bool try_syscall = device.error() == EACCES || device.error() == EPERM || device.error() == ENOENT;
  if (!try_syscall) return device;
  int fd = static_cast<int>(::syscall(SYS_userfaultfd, flags));
  if (fd < 0) return Result<UniqueFd>::from_errno();
  return UniqueFd(fd);
}

int handshake(int fd, uffdio_api* api) { return zero_or_errno(::ioctl(fd, UFFDIO_API, api)); }

int register_range(int fd, uffdio_register* request) { return zero_or_errno(::ioctl(fd, UFFDIO_REGISTER, request)); }

int unregister_range(int fd, uint64_t start, uint64_t len) {
  uffdio_range range{start, len};
  return zero_or_errno(::ioctl(fd, UFFDIO_UNREGISTER, &range));
}

int wake(int fd, uint64_t start, uint64_t len) {
  uffdio_range range{start, len};
  return zero_or_errno(::ioctl(fd, UFFDIO_WAKE, &range));
}

int64_t copy(int fd, uint64_t dst, uint64_t src, uint64_t len, uint64_t mode) {
  uffdio_copy request{dst, src, len, mode, 0};
  int returned = ::ioctl(fd, UFFDIO_COPY, &request);
  return outcome(returned, request.copy, len);
}

int64_t zeropage(int fd, uint64_t start, uint64_t len, uint64_t mode) {
  uffdio_zeropage request{{start, len}, mode, 0};
  int returned = ::ioctl(fd, UFFDIO_ZEROPAGE, &request);
  return outcome(returned, request.zeropage, len);
}

int64_t continue_range(int fd, uint64_t start, uint64_t len, uint64_t mode) {
  uffdio_continue request{{start, len}, mode, 0};
  int returned = ::ioctl(fd, UFFDIO_CONTINUE, &request);
  return outcome(returned, request.mapped, len);
}

int64_t poison(int fd, uint64_t start, uint64_t len, uint64_t mode) {
  uffdio_poison request{{start, len}, mode, 0};
  int returned = ::ioctl(fd, UFFDIO_POISON, &request);
  return outcome(returned, request.updated, len);
}

int64_t write_protect(int fd, uint64_t start, uint64_t len, uint64_t mode) {
  uffdio_writeprotect request{{start, len}, mode};
  int returned = ::ioctl(fd, UFFDIO_WRITEPROTECT, &request);
  return returned == 0 ? static_cast<int64_t>(len) : -errno;
}

int64_t rw_protect(int fd, uint64_t start, uint64_t len, uint64_t mode) {
  uffdio_rwprotect request{{start, len}, mode};
  int returned = ::ioctl(fd, UFFDIO_RWPROTECT, &request);
  return returned == 0 ? static_cast<int64_t>(len) : -errno;
}

int64_t move(int fd, uint64_t dst, uint64_t src, uint64_t len, uint64_t mode) {
  uffdio_move request{dst, src, len, mode, 0};
  int returned = ::ioctl(fd, UFFDIO_MOVE, &request);
  return outcome(returned, request.move, len);
}

int set_mode(int fd, uint64_t enable, uint64_t disable) {
  uffdio_set_mode request{enable, disable};
  return zero_or_errno(::ioctl(fd, UFFDIO_SET_MODE, &request));
}

int read_messages(int fd, uffd_msg* messages, int capacity) {
  int count = read_without_waiting(fd, messages, capacity);
  return count == -EOPNOTSUPP ? read_as_opened(fd, messages, capacity) : count;
}

int read_without_waiting(int fd, uffd_msg* messages, int capacity) {
  iovec buffer{messages, sizeof(uffd_msg) * static_cast<size_t>(capacity)};
  return messages_in(::preadv2(fd, &buffer, 1, -1, RWF_NOWAIT));
}

int read_as_opened(int fd, uffd_msg* messages, int capacity) {
  return messages_in(::read(fd, messages, sizeof(uffd_msg) * static_cast<size_t>(capacity)));
}

int address_space_alive(int fd) {
  // A page at the top of the 47-bit user range, where nobody registers memory, with mode 0, which
  // could only take protection away: ENOENT (or 0) when the mm lives, EAGAIN while it is being
  // changed, ESRCH when it is gone.
  constexpr uint64_t kUnregistered = 0x7ffffffe0000;
  uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  int64_t result = write_protect(fd, kUnregistered, page, 0);
  if (result == -ESRCH) return 0;
  if (result >= 0 || result == -ENOENT || result == -EAGAIN) return 1;
  return static_cast<int>(result);
}

int64_t unregistered_before(int fd, uint64_t start, uint64_t stride, int64_t count) {
  // COPY looks for a registered mapping first (ENOENT). Then it refuses to write-protect in one that is not registered
  // for that (EINVAL), and in one that is, it cannot read the source (EFAULT): nothing is ever filled. Of a huge page
  // only a part is asked for, which is EINVAL as well.
  uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  static const void* const unreadable = ::mmap(nullptr, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (unreadable == MAP_FAILED) return 0;
  uint64_t source = reinterpret_cast<uint64_t>(unreadable);
  for (int64_t i = 0; i < count; i++) {
    uint64_t at = start + static_cast<uint64_t>(i) * stride;
    int64_t result = copy(fd, at, source, page, UFFDIO_COPY_MODE_WP | UFFDIO_COPY_MODE_DONTWAKE);
    if (result == -ESRCH) return -ESRCH;
    if (result != -ENOENT) return i;
  }
  return count;
}

}  // namespace uffd::userfaultfd
