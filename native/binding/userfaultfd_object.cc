#include "userfaultfd_object.h"

#include "../os/answer.h"
#include "../os/userfaultfd.h"
#include "args.h"

namespace uffd {

Napi::Function UserfaultfdObject::define(Napi::Env env) {
  return DefineClass(env, "Userfaultfd",
                     {
                         StaticMethod<&UserfaultfdObject::open>("open"),
                         InstanceMethod<&UserfaultfdObject::get_fd>("fd"),
                         InstanceMethod<&UserfaultfdObject::close>("close"),
                         InstanceMethod<&UserfaultfdObject::handshake>("handshake"),
                         InstanceMethod<&UserfaultfdObject::register_range>("register"),
                         InstanceMethod<&UserfaultfdObject::unregister_range>("unregister"),
                         InstanceMethod<&UserfaultfdObject::answer>("answer"),
                         InstanceMethod<&UserfaultfdObject::set_mode>("setMode"),
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
  result.Set(0U, opened.ok() ? opened.value().release() : -opened.error());
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
  uffdio_api api{UFFD_API, args.bits(0), 0};
  if (!args.ok()) return info.Env().Undefined();
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

// answer(rows: Float64Array of Answer rows): gives them in order; the results are in the rows
Napi::Value UserfaultfdObject::answer(const Napi::CallbackInfo& info) {
  Args args(info);
  Bytes rows = args.bytes(0);
  if (!args.ok()) return info.Env().Undefined();
  int count = static_cast<int>(rows.length / (sizeof(double) * Answer::kFields));
  auto give = [fd = fd_.get()](const double* row) { return Answer::give(row, fd, nullptr); };
  for (int row = 0; row < count;) {
    row = Answer::give_linked(reinterpret_cast<double*>(rows.data), row, count, give);
  }
  return info.Env().Undefined();
}

// setMode(enable: bigint, disable: bigint) -> 0 or -errno
Napi::Value UserfaultfdObject::set_mode(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t enable = args.bits(0);
  uint64_t disable = args.bits(1);
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), userfaultfd::set_mode(fd_.get(), enable, disable));
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
