#include "userfaultfd_object.h"

#include "../os/userfaultfd.h"
#include "args.h"

namespace uffd {

namespace {

using Answer = int64_t (*)(int fd, uint64_t start, uint64_t length, uint64_t mode);

Napi::Value answer_range(const Napi::CallbackInfo& info, int fd, Answer answer) {
  Args args(info);
  uint64_t start = args.size(0);
  uint64_t length = args.size(1);
  uint64_t mode = args.size(2);
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(answer(fd, start, length, mode)));
}

}  // namespace

Napi::Function UserfaultfdObject::define(Napi::Env env) {
  return DefineClass(env, "Userfaultfd",
                     {
                         StaticMethod<&UserfaultfdObject::open>("open"),
                         InstanceMethod<&UserfaultfdObject::get_fd>("fd"),
                         InstanceMethod<&UserfaultfdObject::close>("close"),
                         InstanceMethod<&UserfaultfdObject::handshake>("handshake"),
                         InstanceMethod<&UserfaultfdObject::register_range>("register"),
                         InstanceMethod<&UserfaultfdObject::unregister_range>("unregister"),
                         InstanceMethod<&UserfaultfdObject::wake>("wake"),
                         InstanceMethod<&UserfaultfdObject::copy>("copy"),
                         InstanceMethod<&UserfaultfdObject::zeropage>("zeropage"),
                         InstanceMethod<&UserfaultfdObject::continue_range>("continue"),
                         InstanceMethod<&UserfaultfdObject::poison>("poison"),
                         InstanceMethod<&UserfaultfdObject::read>("read"),
                         InstanceMethod<&UserfaultfdObject::alive>("alive"),
                     });
}

// new Userfaultfd(fd) takes over a descriptor.
UserfaultfdObject::UserfaultfdObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Args args(info);
  int fd = static_cast<int>(args.integer(0));
  if (args.ok()) fd_.reset(fd);
}

// Userfaultfd.open(userModeOnly) -> [descriptor or -errno, errno of /dev/userfaultfd or 0]
Napi::Value UserfaultfdObject::open(const Napi::CallbackInfo& info) {
  Args args(info);
  bool user_mode_only = args.boolean(0);
  if (!args.ok()) return info.Env().Undefined();
  int device_errno = 0;
  auto opened = userfaultfd::open(user_mode_only, &device_errno);
  auto result = Napi::Array::New(info.Env(), 2);
  result.Set(0U, opened.ok() ? opened.value().fd.release() : -opened.error());
  result.Set(1U, device_errno);
  return result;
}

Napi::Value UserfaultfdObject::get_fd(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), fd_.get());
}

Napi::Value UserfaultfdObject::close(const Napi::CallbackInfo& info) {
  fd_.reset(-1);
  return info.Env().Undefined();
}

// handshake(features: bigint) -> [features, ioctls] as bigints, or -errno
Napi::Value UserfaultfdObject::handshake(const Napi::CallbackInfo& info) {
  Args args(info);
  if (!args.expect(0, info[0].IsBigInt(), "a bigint")) return info.Env().Undefined();
  bool lossless;
  uffdio_api api{UFFD_API, info[0].As<Napi::BigInt>().Uint64Value(&lossless), 0};
  int error = userfaultfd::handshake(fd_.get(), &api);
  if (error < 0) return Napi::Number::New(info.Env(), error);
  auto result = Napi::Array::New(info.Env(), 2);
  result.Set(0U, Napi::BigInt::New(info.Env(), api.features));
  result.Set(1U, Napi::BigInt::New(info.Env(), api.ioctls));
  return result;
}

// register(start, length, mode) -> the mask of answers the range takes, as a bigint, or -errno
Napi::Value UserfaultfdObject::register_range(const Napi::CallbackInfo& info) {
  Args args(info);
  uffdio_register request{{args.size(0), args.size(1)}, args.size(2), 0};
  if (!args.ok()) return info.Env().Undefined();
  int error = userfaultfd::register_range(fd_.get(), &request);
  if (error < 0) return Napi::Number::New(info.Env(), error);
  return Napi::BigInt::New(info.Env(), request.ioctls);
}

Napi::Value UserfaultfdObject::unregister_range(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t start = args.size(0);
  uint64_t length = args.size(1);
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), userfaultfd::unregister_range(fd_.get(), start, length));
}

Napi::Value UserfaultfdObject::wake(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t start = args.size(0);
  uint64_t length = args.size(1);
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), userfaultfd::wake(fd_.get(), start, length));
}

// copy(start, source: typed array, mode)
Napi::Value UserfaultfdObject::copy(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t start = args.size(0);
  Bytes source = args.bytes(1);
  uint64_t mode = args.size(2);
  if (!args.ok()) return info.Env().Undefined();
  // SAFETY: the call is synchronous on the thread that owns the array, which therefore cannot move
  // or go.
  int64_t done = userfaultfd::copy(fd_.get(), start, reinterpret_cast<uint64_t>(source.data), source.length, mode);
  return Napi::Number::New(info.Env(), static_cast<double>(done));
}

Napi::Value UserfaultfdObject::zeropage(const Napi::CallbackInfo& info) {
  return answer_range(info, fd_.get(), userfaultfd::zeropage);
}

Napi::Value UserfaultfdObject::continue_range(const Napi::CallbackInfo& info) {
  return answer_range(info, fd_.get(), userfaultfd::continue_range);
}

Napi::Value UserfaultfdObject::poison(const Napi::CallbackInfo& info) {
  return answer_range(info, fd_.get(), userfaultfd::poison);
}

// read(buffer) -> whole 32-byte messages read into the buffer, 0 when none waits, or -errno
Napi::Value UserfaultfdObject::read(const Napi::CallbackInfo& info) {
  Args args(info);
  Bytes buffer = args.bytes(0);
  if (!args.ok()) return info.Env().Undefined();
  int capacity = static_cast<int>(buffer.length / sizeof(uffd_msg));
  int count = userfaultfd::read_messages(fd_.get(), reinterpret_cast<uffd_msg*>(buffer.data), capacity);
  return Napi::Number::New(info.Env(), count);
}

Napi::Value UserfaultfdObject::alive(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), userfaultfd::address_space_alive(fd_.get()));
}

}  // namespace uffd
