#include "source_file.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "../uapi/system_calls.h"

namespace uffd::source_file {

namespace {

constexpr long kTmpfsMagic = 0x01021994;
constexpr long kHugetlbfsMagic = 0x958458f6;

int64_t nanoseconds(const timespec& time) { return time.tv_sec * 1000000000LL + time.tv_nsec; }

int64_t read_with(int fd, void* target, uint64_t bytes, int64_t offset, int flags) {
  uint64_t done = 0;
  while (done < bytes) {
    iovec buffer{static_cast<char*>(target) + done, bytes - done};
    ssize_t n = ::preadv2(fd, &buffer, 1, offset + static_cast<int64_t>(done), flags);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return done > 0 && flags != 0 ? static_cast<int64_t>(done) : -errno;
    if (n == 0) break;
    done += static_cast<uint64_t>(n);
  }
  return static_cast<int64_t>(done);
}

}  // namespace

Result<UniqueFd> open(const char* path) {
  // O_NONBLOCK: opening a FIFO by mistake must not wait for a writer.
  int fd = ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Result<UniqueFd>::from_errno();
  return UniqueFd(fd);
}

int64_t read(int fd, void* target, uint64_t bytes, int64_t offset) { return read_with(fd, target, bytes, offset, 0); }

int64_t read_cached(int fd, void* target, uint64_t bytes, int64_t offset) {
  return read_with(fd, target, bytes, offset, RWF_NOWAIT);
}

int identify(int fd, Identity* identity) {
  struct stat st;
  struct statfs fs;
  if (::fstat(fd, &st) != 0 || ::fstatfs(fd, &fs) != 0) return -errno;
  *identity = Identity{st.st_dev,
                       st.st_ino,
                       st.st_size,
                       nanoseconds(st.st_mtim),
                       nanoseconds(st.st_ctim),
                       st.st_nlink,
                       S_ISREG(st.st_mode),
                       fs.f_type == kTmpfsMagic || fs.f_type == kHugetlbfsMagic};
  return 0;
}

std::vector<int64_t> holes(int fd, int64_t size, size_t limit) {
  std::vector<int64_t> found;
  int64_t at = 0;
  while (at < size && found.size() < 2 * limit) {
    // At the end of the file there is a hole for every file system: the one that is no hole.
    int64_t start = ::lseek(fd, at, SEEK_HOLE);
    if (start < at || start >= size) break;
    int64_t end = ::lseek(fd, start, SEEK_DATA);
    if (end < 0 && errno != ENXIO) break;
    if (end < 0 || end > size) end = size;
    if (end <= start) break;
    found.push_back(start);
    found.push_back(end);
    at = end;
  }
  return found;
}

namespace {

// Where a lease says all there is to say: every change goes through this kernel. Not on FUSE, which grants one and
// whose files change behind it, nor on overlayfs, where the layer below can, nor on networks.
bool lease_counts(int fd) {
  struct statfs fs;
  if (::fstatfs(fd, &fs) != 0) return false;
  switch (static_cast<uint32_t>(fs.f_type)) {
    case 0xef53:      // ext4
    case 0x58465342:  // XFS
    case 0x9123683e:  // btrfs
    case 0xf2f52010:  // F2FS
    case kTmpfsMagic:
      return true;
    default:
      return false;
  }
}

}  // namespace

int take_lease(int fd) {
  if (!lease_counts(fd)) return -EINVAL;
  // SIGURG, which is ignored by default, for the moment until the lease has no owner to be signalled.
  if (::fcntl(fd, F_SETSIG, SIGURG) != 0) return -errno;
  if (::fcntl(fd, F_SETLEASE, F_RDLCK) != 0) return -errno;
  ::fcntl(fd, F_SETOWN, 0);
  return 0;
}

bool lease_held(int fd) { return ::fcntl(fd, F_GETLEASE) == F_RDLCK; }

void give_lease_back(int fd) { ::fcntl(fd, F_SETLEASE, F_UNLCK); }

bool residency_visible(int fd) {
  struct stat st;
  if (::fstat(fd, &st) != 0) return false;
  if (st.st_uid == ::geteuid() || ::geteuid() == 0) return true;
  return ::faccessat(fd, "", W_OK, AT_EMPTY_PATH | AT_EACCESS) == 0;
}

bool unchanged(int fd, Identity* before, bool strictly) {
  struct stat st;
  if (::fstat(fd, &st) != 0) return false;
  if (st.st_dev != before->device || st.st_ino != before->inode || st.st_size != before->size ||
      nanoseconds(st.st_mtim) != before->mtime_ns) {
    return false;
  }
  if (!strictly || nanoseconds(st.st_ctim) == before->ctime_ns) return true;
  if (st.st_nlink == before->links) return false;
  before->links = st.st_nlink;
  before->ctime_ns = nanoseconds(st.st_ctim);
  return true;
}

}  // namespace uffd::source_file
