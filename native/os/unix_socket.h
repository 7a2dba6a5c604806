// AF_UNIX stream sockets that carry descriptors (unix(7), SCM_RIGHTS). All calls are non-blocking.
#pragma once

#include <cstdint>
#include <string>

#include "unique_fd.h"

namespace uffd::unix_socket {

// More descriptors than any handshake needs are a refusal.
constexpr int kMaxDescriptors = 3;

// Binds with mode 0600 from the first moment; -EADDRINUSE when anything is at `path`.
Result<UniqueFd> listen(const std::string& path, int backlog);
Result<UniqueFd> accept(int listener);
// -EAGAIN when the listener's queue is full.
Result<UniqueFd> connect(const std::string& path);
Result<UniqueFd> pair(UniqueFd* other);

struct Received {
  int64_t bytes = 0;  // 0 is the end of the stream
  // There were more than kMaxDescriptors, or than this process may open.
  bool control_truncated = false;
  int descriptor_count = 0;
  int descriptors[kMaxDescriptors];
};
// The descriptors in `received` belong to the caller, all close-on-exec. Those beyond kMaxDescriptors are closed by a
// thread nobody waits for.
int receive(int socket, void* buffer, uint64_t capacity, Received* received);
// The descriptors go with the first byte. The bytes sent, or a negative errno.
int64_t send(int socket, const void* bytes, uint64_t length, const int* descriptors, int count);

struct Peer {
  int pid = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  // SO_PEERPIDFD (6.5), else pidfd_open(2) of the pid (5.3); closed when neither works.
  UniqueFd pidfd;
};
Result<Peer> peer(int socket);

}  // namespace uffd::unix_socket
