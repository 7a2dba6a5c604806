#include "unix_socket_object.h"

#include "../os/process.h"
#include "../os/unix_socket.h"
#include "args.h"

namespace uffd {

namespace {

Napi::Value descriptor_or_errno(Napi::Env env, Result<UniqueFd> fd) {
  return Napi::Number::New(env, fd.ok() ? fd.value().release() : -fd.error());
}

}  // namespace

Napi::Function UnixSocketObject::define(Napi::Env env) {
  return DefineClass(env, "UnixSocket",
                     {
                         StaticMethod<&UnixSocketObject::listen>("listen"),
                         StaticMethod<&UnixSocketObject::connect>("connect"),
                         StaticMethod<&UnixSocketObject::pair>("pair"),
                         InstanceMethod<&UnixSocketObject::get_fd>("fd"),
                         InstanceMethod<&UnixSocketObject::close>("close"),
                         InstanceMethod<&UnixSocketObject::close_detached>("closeDetached"),
                         InstanceMethod<&UnixSocketObject::accept>("accept"),
                         InstanceMethod<&UnixSocketObject::receive>("receive"),
                         InstanceMethod<&UnixSocketObject::send>("send"),
                         InstanceMethod<&UnixSocketObject::peer>("peer"),
                     });
}

// new UnixSocket(fd) takes over a descriptor.
UnixSocketObject::UnixSocketObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Args args(info);
  int fd = static_cast<int>(args.integer(0));
  if (args.ok()) fd_.reset(fd);
}

// UnixSocket.listen(path, backlog) -> descriptor or -errno
Napi::Value UnixSocketObject::listen(const Napi::CallbackInfo& info) {
  Args args(info);
  std::string path = args.string(0);
  int backlog = static_cast<int>(args.integer(1));
  if (!args.ok()) return info.Env().Undefined();
  return descriptor_or_errno(info.Env(), unix_socket::listen(path, backlog));
}

// UnixSocket.connect(path) -> descriptor or -errno
Napi::Value UnixSocketObject::connect(const Napi::CallbackInfo& info) {
  Args args(info);
  std::string path = args.string(0);
  if (!args.ok()) return info.Env().Undefined();
  return descriptor_or_errno(info.Env(), unix_socket::connect(path));
}

// UnixSocket.pair() -> [descriptor, descriptor] or -errno
Napi::Value UnixSocketObject::pair(const Napi::CallbackInfo& info) {
  UniqueFd other;
  auto one = unix_socket::pair(&other);
  if (!one.ok()) return errno_value(info.Env(), one.error());
  auto result = Napi::Array::New(info.Env(), 2);
  result.Set(0U, one.value().release());
  result.Set(1U, other.release());
  return result;
}

Napi::Value UnixSocketObject::get_fd(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), fd_.get());
}

Napi::Value UnixSocketObject::close(const Napi::CallbackInfo& info) {
  fd_.reset(-1);
  return info.Env().Undefined();
}

// closeDetached(): what is still queued on the socket, descriptors among it, is closed with it, by a thread nobody
// waits for.
Napi::Value UnixSocketObject::close_detached(const Napi::CallbackInfo& info) {
  if (fd_.open()) process::close_detached(fd_.release());
  return info.Env().Undefined();
}

Napi::Value UnixSocketObject::accept(const Napi::CallbackInfo& info) {
  return descriptor_or_errno(info.Env(), unix_socket::accept(fd_.get()));
}

// receive(buffer) -> [bytes, controlTruncated, ...descriptors] or -errno
Napi::Value UnixSocketObject::receive(const Napi::CallbackInfo& info) {
  Args args(info);
  Bytes buffer = args.bytes(0);
  if (!args.ok()) return info.Env().Undefined();
  unix_socket::Received received;
  int error = unix_socket::receive(fd_.get(), buffer.data, buffer.length, &received);
  if (error < 0) return Napi::Number::New(info.Env(), error);
  auto result = Napi::Array::New(info.Env());
  result.Set(0U, static_cast<double>(received.bytes));
  result.Set(1U, received.control_truncated);
  for (int i = 0; i < received.descriptor_count; i++) {
    result.Set(static_cast<uint32_t>(2 + i), received.descriptors[i]);
  }
  return result;
}

// send(bytes, descriptors: number[]) -> bytes sent or -errno
Napi::Value UnixSocketObject::send(const Napi::CallbackInfo& info) {
  Args args(info);
  Bytes bytes = args.bytes(0);
  std::vector<int> descriptors = args.integers(1);
  if (!args.ok()) return info.Env().Undefined();
  int64_t sent =
      unix_socket::send(fd_.get(), bytes.data, bytes.length, descriptors.data(), static_cast<int>(descriptors.size()));
  return Napi::Number::New(info.Env(), static_cast<double>(sent));
}

// peer() -> [pid, uid, gid, pidfd or -1] or -errno
Napi::Value UnixSocketObject::peer(const Napi::CallbackInfo& info) {
  auto peer = unix_socket::peer(fd_.get());
  if (!peer.ok()) return errno_value(info.Env(), peer.error());
  auto result = Napi::Array::New(info.Env(), 4);
  result.Set(0U, peer.value().pid);
  result.Set(1U, peer.value().uid);
  result.Set(2U, peer.value().gid);
  result.Set(3U, peer.value().pidfd.release());
  return result;
}

}  // namespace uffd
