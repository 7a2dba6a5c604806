// memfd_create(2): anonymous files in shared memory, and the calls on them that take no mapping.
#pragma once

#include <cstdint>

#include "../uapi/memfd.h"
#include "unique_fd.h"

namespace uffd::memfd {

Result<UniqueFd> create(const char* name, unsigned flags);
// memfd_secret(2) (5.14): pages that the kernel itself does not map.
Result<UniqueFd> create_secret();
int set_size(int fd, int64_t bytes);
int add_seals(int fd, int seals);
// The seals, or a negative errno; EINVAL says that the descriptor is not of a file that can be
// sealed. Never calls into the file system behind a foreign descriptor, unlike fstat(2).
int get_seals(int fd);
int punch_hole(int fd, int64_t offset, int64_t bytes);
int allocate(int fd, int64_t offset, int64_t bytes);
// pwrite(2) until all is written or an errno; the bytes written, or a negative errno when none
// were. `source` may be a mapped file: past its end the kernel says EFAULT instead of raising
// SIGBUS.
int64_t write_all(int fd, const void* source, uint64_t bytes, int64_t offset);

// lseek(2) with SEEK_DATA or SEEK_HOLE: the offset found, or a negative errno (-ENXIO: no data from there on).
int64_t seek(int fd, int64_t offset, bool data);

struct Status {
  int64_t size;
  int64_t blocks_512;
  // The page size of the backing: 2 MiB or 1 GiB for hugetlb.
  int64_t block_size;
};
Result<Status> status(int fd);

}  // namespace uffd::memfd
