// Reading a snapshot file without loading from a mapping of it: a file that shrinks is a short read
// here, and a SIGBUS there.
#pragma once

#include <cstdint>
#include <vector>

#include "unique_fd.h"

namespace uffd::source_file {

Result<UniqueFd> open(const char* path);

// Up to `bytes` at `offset`: the bytes read (fewer only at the end of the file), or a negative
// errno.
int64_t read(int fd, void* target, uint64_t bytes, int64_t offset);
// The same from the page cache only: fewer bytes than asked where the rest would have to come from
// a disk, -EAGAIN when nothing is cached, -EOPNOTSUPP from file systems that cannot tell (tmpfs,
// FUSE).
int64_t read_cached(int fd, void* target, uint64_t bytes, int64_t offset);

// What must not change while the file is served.
struct Identity {
  uint64_t device;
  uint64_t inode;
  int64_t size;
  int64_t mtime_ns;
  int64_t ctime_ns;
  uint64_t links;
  bool regular;
  bool in_memory;  // tmpfs: has no cold pages, and says EOPNOTSUPP to read_cached
};
int identify(int fd, Identity* identity);
// Where the file has no bytes of its own and reads as zeroes: start and end of each hole, the last one up to the size.
// At most `limit` of them, from the beginning on; none from file systems that cannot tell (lseek(2), SEEK_HOLE).
std::vector<int64_t> holes(int fd, int64_t size, size_t limit);
// A read lease (fcntl(2), F_SETLEASE): whoever wants to open the file for writing or truncate it waits until the lease
// is given back, or for /proc/sys/fs/lease-break-time. -EAGAIN when somebody has it open for writing already, -EACCES
// or -EPERM when it is not ours, -EINVAL on file systems without leases, and where files change without
// breaking one (FUSE, overlayfs, networks). Sends no signal: ask lease_held().
int take_lease(int fd);
// False once somebody waits for it, or it has been taken away.
bool lease_held(int fd);
void give_lease_back(int fd);
// Whether mincore(2) tells the truth about this file's pages: only to its owner and to those who may write to it.
bool residency_visible(int fd);

// True while size and modification time are as they were; one fstat(2). With `strictly` also the time of the last
// status change: whoever sets the modification time back does not get past that one. It changes as well when another
// file is renamed over this one, or this one is unlinked: that shows in the number of links, and is noted in `before`.
bool unchanged(int fd, Identity* before, bool strictly);

}  // namespace uffd::source_file
