// One userfaultfd: opening it, the UFFDIO_API handshake, and every ioctl as a plain function on its
// descriptor.
#pragma once

#include <cstdint>

#include "../uapi/userfaultfd.h"
#include "unique_fd.h"

namespace uffd::userfaultfd {

// Tries /dev/userfaultfd (Linux 6.1), then userfaultfd(2) when the device says EACCES, EPERM or
// ENOENT. Always O_CLOEXEC | O_NONBLOCK: poll(2) reports POLLERR for a blocking userfaultfd.
// *device_errno says why it was not the device; 0 when it was.
Result<UniqueFd> open(bool user_mode_only, int* device_errno);

// The two-step handshake's single step. On return *api holds what the kernel filled in.
int handshake(int fd, uffdio_api* api);

int register_range(int fd, uffdio_register* request);
int unregister_range(int fd, uint64_t start, uint64_t len);
int wake(int fd, uint64_t start, uint64_t len);

// The answers. Each returns the bytes done (len, or fewer when a later page could not be done),
// or a negative errno when nothing was done. -EAGAIN is only ever "the mappings are changing,
// nothing done": the kernel's other EAGAIN, partial progress, is returned as the number of bytes.
int64_t copy(int fd, uint64_t dst, uint64_t src, uint64_t len, uint64_t mode);
int64_t zeropage(int fd, uint64_t start, uint64_t len, uint64_t mode);
int64_t continue_range(int fd, uint64_t start, uint64_t len, uint64_t mode);
int64_t poison(int fd, uint64_t start, uint64_t len, uint64_t mode);
// No progress field: len or a negative errno.
int64_t write_protect(int fd, uint64_t start, uint64_t len, uint64_t mode);
int64_t rw_protect(int fd, uint64_t start, uint64_t len, uint64_t mode);
// From `src` to `dst` in the address space of the userfaultfd.
int64_t move(int fd, uint64_t dst, uint64_t src, uint64_t len, uint64_t mode);

// Switches features of a live userfaultfd on and off (7.3: UFFD_FEATURE_RWP_ASYNC).
int set_mode(int fd, uint64_t enable, uint64_t disable);

// Whole messages into `messages`; the number read, 0 when none is waiting, or a negative errno. Without waiting where
// the kernel can, else as the descriptor was opened.
int read_messages(int fd, uffd_msg* messages, int capacity);
// RWF_NOWAIT holds even if the peer that shares the description has cleared O_NONBLOCK. -EOPNOTSUPP before userfaultfd
// had read_iter (6.10).
int read_without_waiting(int fd, uffd_msg* messages, int capacity);
// Waits for a message if the peer has cleared O_NONBLOCK.
int read_as_opened(int fd, uffd_msg* messages, int capacity);

// Is the address space behind the descriptor still there? 1 or 0; a negative errno when the kernel
// cannot tell.
int address_space_alive(int fd);

// How many of `count` pages, `stride` bytes apart from `start` on, come before the first that is registered with some
// userfaultfd of that address space, or about which the kernel does not say. Nothing changes. -ESRCH when the address
// space is gone.
int64_t unregistered_before(int fd, uint64_t start, uint64_t stride, int64_t count);

}  // namespace uffd::userfaultfd
