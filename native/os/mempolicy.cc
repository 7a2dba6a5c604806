#include "mempolicy.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "result.h"

namespace uffd::mempolicy {

namespace {

constexpr unsigned long kQueryAddress = 1UL << 1;  // MPOL_F_ADDR
// get_mempolicy(2) wants room for every node the kernel was built for, or fails with EINVAL.
constexpr unsigned long kMaxNodes = 1024;
constexpr unsigned long kBitsPerWord = 64;

}  // namespace

int bind(void* start, uint64_t length, int mode, uint64_t nodes, unsigned flags) {
  // The kernel takes the number of bits plus one.
  return zero_or_errno(static_cast<int>(::syscall(SYS_mbind, start, length, mode, &nodes, kBitsPerWord + 1, flags)));
}

int query(void* address, int* mode, uint64_t* nodes) {
  uint64_t mask[kMaxNodes / kBitsPerWord] = {};
  long returned = ::syscall(SYS_get_mempolicy, mode, mask, kMaxNodes, address, kQueryAddress);
  if (returned != 0) return -errno;
  *nodes = mask[0];
  return 0;
}

}  // namespace uffd::mempolicy
