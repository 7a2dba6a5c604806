#include "memfd_object.h"

#include "../os/mapping.h"
#include "../os/memfd.h"
#include "args.h"

namespace uffd {

Napi::Function MemfdObject::define(Napi::Env env) {
  return DefineClass(env, "Memfd",
                     {
                         StaticMethod<&MemfdObject::create>("create"),
                         StaticMethod<&MemfdObject::create_secret>("createSecret"),
                         InstanceMethod<&MemfdObject::get_fd>("fd"),
                         InstanceMethod<&MemfdObject::close>("close"),
                         InstanceMethod<&MemfdObject::set_size>("setSize"),
                         InstanceMethod<&MemfdObject::status>("status"),
                         InstanceMethod<&MemfdObject::add_seals>("addSeals"),
                         InstanceMethod<&MemfdObject::get_seals>("getSeals"),
                         InstanceMethod<&MemfdObject::punch_hole>("punchHole"),
                         InstanceMethod<&MemfdObject::allocate>("allocate"),
                         InstanceMethod<&MemfdObject::seek>("seek"),
                         InstanceMethod<&MemfdObject::write>("write"),
                         InstanceMethod<&MemfdObject::write_from_file>("writeFromFile"),
                     });
}

// new Memfd(fd) takes over a descriptor.
MemfdObject::MemfdObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Args args(info);
  int fd = static_cast<int>(args.integer(0));
  if (args.ok()) fd_.reset(fd);
}

// Memfd.create(name, flags) -> descriptor or -errno
Napi::Value MemfdObject::create(const Napi::CallbackInfo& info) {
  Args args(info);
  std::string name = args.string(0);
  unsigned flags = static_cast<unsigned>(args.size(1));
  if (!args.ok()) return info.Env().Undefined();
  auto fd = memfd::create(name.c_str(), flags);
  return Napi::Number::New(info.Env(), fd.ok() ? fd.value().release() : -fd.error());
}

// Memfd.createSecret() -> descriptor or -errno
Napi::Value MemfdObject::create_secret(const Napi::CallbackInfo& info) {
  auto fd = memfd::create_secret();
  return Napi::Number::New(info.Env(), fd.ok() ? fd.value().release() : -fd.error());
}

Napi::Value MemfdObject::get_fd(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), fd_.get()); }

Napi::Value MemfdObject::close(const Napi::CallbackInfo& info) {
  fd_.reset(-1);
  return info.Env().Undefined();
}

Napi::Value MemfdObject::set_size(const Napi::CallbackInfo& info) {
  Args args(info);
  int64_t bytes = args.integer(0);
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), memfd::set_size(fd_.get(), bytes));
}

// [size, allocated bytes, page size] or -errno
Napi::Value MemfdObject::status(const Napi::CallbackInfo& info) {
  auto status = memfd::status(fd_.get());
  if (!status.ok()) return errno_value(info.Env(), status.error());
  auto array = Napi::Array::New(info.Env(), 3);
  array.Set(0U, static_cast<double>(status.value().size));
  array.Set(1U, static_cast<double>(status.value().blocks_512 * 512));
  array.Set(2U, static_cast<double>(status.value().block_size));
  return array;
}

Napi::Value MemfdObject::add_seals(const Napi::CallbackInfo& info) {
  Args args(info);
  int seals = static_cast<int>(args.integer(0));
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), memfd::add_seals(fd_.get(), seals));
}

Napi::Value MemfdObject::get_seals(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), memfd::get_seals(fd_.get()));
}

Napi::Value MemfdObject::punch_hole(const Napi::CallbackInfo& info) {
  Args args(info);
  int64_t offset = args.integer(0);
  int64_t bytes = args.integer(1);
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), memfd::punch_hole(fd_.get(), offset, bytes));
}

Napi::Value MemfdObject::allocate(const Napi::CallbackInfo& info) {
  Args args(info);
  int64_t offset = args.integer(0);
  int64_t bytes = args.integer(1);
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), memfd::allocate(fd_.get(), offset, bytes));
}

// seek(offset, data or hole) -> offset or -errno
Napi::Value MemfdObject::seek(const Napi::CallbackInfo& info) {
  Args args(info);
  int64_t offset = args.integer(0);
  bool data = args.boolean(1);
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(memfd::seek(fd_.get(), offset, data)));
}

Napi::Value MemfdObject::write(const Napi::CallbackInfo& info) {
  Args args(info);
  Bytes bytes = args.bytes(0);
  int64_t offset = args.integer(1);
  if (!args.ok()) return info.Env().Undefined();
  int64_t written = memfd::write_all(fd_.get(), bytes.data, bytes.length, offset);
  return Napi::Number::New(info.Env(), static_cast<double>(written));
}

// writeFromFile(fileFd, fileOffset, bytes, offset): pwrite(2) straight from a mapping of the file,
// one copy less than reading it first; -EFAULT past the end of the file. fileOffset is a multiple
// of the page size.
Napi::Value MemfdObject::write_from_file(const Napi::CallbackInfo& info) {
  Args args(info);
  int file = static_cast<int>(args.integer(0));
  uint64_t file_offset = args.size(1);
  uint64_t bytes = args.size(2);
  int64_t offset = args.integer(3);
  if (!args.ok()) return info.Env().Undefined();
  auto mapping = Mapping::map(file, file_offset, bytes, PROT_READ, MAP_SHARED);
  if (!mapping.ok()) return errno_value(info.Env(), mapping.error());
  // SAFETY: only the kernel loads from the mapping, so a file that shrinks is an errno, not a
  // SIGBUS.
  int64_t written = memfd::write_all(fd_.get(), mapping.value().data(), bytes, offset);
  return Napi::Number::New(info.Env(), static_cast<double>(written));
}

}  // namespace uffd
