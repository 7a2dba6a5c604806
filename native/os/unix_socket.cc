#include "unix_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstddef>
#include <cstring>
#include <vector>

#include "../uapi/system_calls.h"
#include "process.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

namespace uffd::unix_socket {

namespace {

constexpr int kSocketType = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
// The kernel's SCM_MAX_FD: no message has more descriptors.
constexpr int kMostSent = 253;

bool address_of(const std::string& path, sockaddr_un* address) {
  std::memset(address, 0, sizeof(*address));
  address->sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address->sun_path)) return false;
  std::memcpy(address->sun_path, path.data(), path.size());
  return true;
}

}  // namespace

Result<UniqueFd> listen(const std::string& path, int backlog) {
  sockaddr_un address;
  if (!address_of(path, &address)) return Result<UniqueFd>::failure(ENAMETOOLONG);
  UniqueFd fd(::socket(AF_UNIX, kSocketType, 0));
  if (!fd.open()) return Result<UniqueFd>::from_errno();
  // The mode of the socket's own inode is what bind(2) gives the file: no umask, which is the whole
  // process's, and no moment at which another user could connect.
  if (::fchmod(fd.get(), 0600) != 0) return Result<UniqueFd>::from_errno();
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    return Result<UniqueFd>::from_errno();
  }
  if (::listen(fd.get(), backlog) != 0) {
    int error = errno;
    ::unlink(path.c_str());
    return Result<UniqueFd>::failure(error);
  }
  return fd;
}

Result<UniqueFd> accept(int listener) {
  int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return Result<UniqueFd>::from_errno();
  return UniqueFd(fd);
}

Result<UniqueFd> connect(const std::string& path) {
  sockaddr_un address;
  if (!address_of(path, &address)) return Result<UniqueFd>::failure(ENAMETOOLONG);
  UniqueFd fd(::socket(AF_UNIX, kSocketType, 0));
  if (!fd.open()) return Result<UniqueFd>::from_errno();
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    return Result<UniqueFd>::from_errno();
  }
  return fd;
}

Result<UniqueFd> pair(UniqueFd* other) {
  int fds[2];
  if (::socketpair(AF_UNIX, kSocketType, 0, fds) != 0) return Result<UniqueFd>::from_errno();
  other->reset(fds[1]);
  return UniqueFd(fds[0]);
}

int receive(int socket, void* buffer, uint64_t capacity, Received* received) {
  // Room for all that can come: recvmsg(2) itself closes what does not fit, and that can take for ever.
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMostSent)];
  iovec data{buffer, capacity};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t bytes;
  do {
    bytes = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (bytes < 0 && errno == EINTR);
  if (bytes < 0) return -errno;
  received->bytes = bytes;
  std::vector<int> surplus;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    int count = static_cast<int>((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (int i = 0; i < count; i++) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + sizeof(int) * static_cast<size_t>(i), sizeof(int));
      if (received->descriptor_count < kMaxDescriptors) {
        received->descriptors[received->descriptor_count++] = fd;
      } else {
        surplus.push_back(fd);
      }
    }
  }
  received->control_truncated = !surplus.empty() || (message.msg_flags & MSG_CTRUNC) != 0;
  if (!surplus.empty()) process::close_detached(std::move(surplus));
  return 0;
}

int64_t send(int socket, const void* bytes, uint64_t length, const int* descriptors, int count) {
  if (count < 0 || count > kMaxDescriptors) return -EINVAL;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxDescriptors)] = {};
  iovec data{const_cast<void*>(bytes), length};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (count > 0) {
    size_t payload = sizeof(int) * static_cast<size_t>(count);
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(payload);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(payload);
    std::memcpy(CMSG_DATA(header), descriptors, payload);
  }
  ssize_t sent;
  do {
    sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? -errno : sent;
}

Result<Peer> peer(int socket) {
  ucred credentials;
  socklen_t size = sizeof(credentials);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return Result<Peer>::from_errno();
  }
  Peer peer;
  peer.pid = credentials.pid;
  peer.uid = credentials.uid;
  peer.gid = credentials.gid;
  int pidfd = -1;
  size = sizeof(pidfd);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) != 0) {
    // A pid can have been reused by now: the caller must not take an exit seen on this one for
    // proof.
    pidfd = static_cast<int>(::syscall(SYS_pidfd_open, credentials.pid, 0));
  }
  if (pidfd >= 0) {
    ::fcntl(pidfd, F_SETFD, FD_CLOEXEC);
    peer.pidfd.reset(pidfd);
  }
  return peer;
}

}  // namespace uffd::unix_socket
