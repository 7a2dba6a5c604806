#include "memfd.h"

#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/syscall.h>

namespace uffd::memfd {

Result<UniqueFd> create(const char* name, unsigned flags) {
  int fd = static_cast<int>(::syscall(SYS_memfd_create, name, flags));
  if (fd < 0) return Result<UniqueFd>::from_errno();
  return UniqueFd(fd);
}

Result<UniqueFd> create_secret() {
  int fd = static_cast<int>(::syscall(SYS_memfd_secret, O_CLOEXEC));
  if (fd < 0) return Result<UniqueFd>::from_errno();
  return UniqueFd(fd);
}

int set_size(int fd, int64_t bytes) { return zero_or_errno(::ftruncate(fd, bytes)); }

int add_seals(int fd, int seals) { return zero_or_errno(::fcntl(fd, FCNTL_ADD_SEALS, seals)); }

int get_seals(int fd) {
  int seals = ::fcntl(fd, FCNTL_GET_SEALS);
  return seals < 0 ? -errno : seals;
}

int punch_hole(int fd, int64_t offset, int64_t bytes) {
  return zero_or_errno(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes));
}

int allocate(int fd, int64_t offset, int64_t bytes) {
  return zero_or_errno(::fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, bytes));
}

int64_t write_all(int fd, const void* source, uint64_t bytes, int64_t offset) {
  uint64_t done = 0;
  while (done < bytes) {
    ssize_t n =
        ::pwrite(fd, static_cast<const char*>(source) + done, bytes - done, offset + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return done > 0 ? static_cast<int64_t>(done) : -errno;
    done += static_cast<uint64_t>(n);
  }
  return static_cast<int64_t>(done);
}

int64_t seek(int fd, int64_t offset, bool data) {
  off_t found = ::lseek(fd, offset, data ? SEEK_DATA : SEEK_HOLE);
  return found < 0 ? -errno : found;
}

Result<Status> status(int fd) {
  struct stat st;
  if (::fstat(fd, &st) != 0) return Result<Status>::from_errno();
  return Status{st.st_size, st.st_blocks, st.st_blksize};
}

}  // namespace uffd::memfd
