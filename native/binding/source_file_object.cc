#include "source_file_object.h"

#include "args.h"

namespace uffd {

Napi::Function SourceFileObject::define(Napi::Env env) {
  return DefineClass(env, "SourceFile",
                     {
                         InstanceMethod<&SourceFileObject::error>("error"),
                         InstanceMethod<&SourceFileObject::identity>("identity"),
                         InstanceMethod<&SourceFileObject::unchanged>("unchanged"),
                         InstanceMethod<&SourceFileObject::read>("read"),
                         InstanceMethod<&SourceFileObject::close>("close"),
                     });
}

// new SourceFile(path), or new SourceFile(fd) for a descriptor of its own of a file another thread
// has opened; error() says whether it worked.
SourceFileObject::SourceFileObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Args args(info);
  if (info[0].IsNumber()) {
    fd_.reset(::fcntl(static_cast<int>(args.integer(0)), F_DUPFD_CLOEXEC, 0));
    error_ = fd_.open() ? 0 : errno;
  } else {
    std::string path = args.string(0);
    if (!args.ok()) return;
    auto fd = source_file::open(path.c_str());
    error_ = fd.error();
    if (fd.ok()) fd_ = fd.take();
  }
  if (error_ != 0) return;
  error_ = -source_file::identify(fd_.get(), &identity_);
}

Napi::Value SourceFileObject::error(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), -error_); }

// [size, isRegularFile, inMemory, device, inode, mtimeNs, fd], device to mtimeNs as bigints
Napi::Value SourceFileObject::identity(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto result = Napi::Array::New(env, 7);
  result.Set(0U, static_cast<double>(identity_.size));
  result.Set(1U, identity_.regular);
  result.Set(2U, identity_.in_memory);
  result.Set(3U, Napi::BigInt::New(env, identity_.device));
  result.Set(4U, Napi::BigInt::New(env, identity_.inode));
  result.Set(5U, Napi::BigInt::New(env, identity_.mtime_ns));
  result.Set(6U, fd_.get());
  return result;
}

Napi::Value SourceFileObject::unchanged(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), source_file::unchanged(fd_.get(), identity_));
}

// read(target, targetOffset, bytes, fileOffset, cachedOnly) -> bytes read or -errno
Napi::Value SourceFileObject::read(const Napi::CallbackInfo& info) {
  Args args(info);
  Bytes target = args.bytes(0);
  uint64_t target_offset = args.size(1);
  uint64_t bytes = args.size(2);
  int64_t file_offset = args.integer(3);
  bool cached_only = args.boolean(4);
  args.expect(2, target_offset <= target.length && bytes <= target.length - target_offset, "within the target");
  if (!args.ok()) return info.Env().Undefined();
  auto read = cached_only ? source_file::read_cached : source_file::read;
  int64_t done = read(fd_.get(), target.data + target_offset, bytes, file_offset);
  return Napi::Number::New(info.Env(), static_cast<double>(done));
}

Napi::Value SourceFileObject::close(const Napi::CallbackInfo& info) {
  fd_.reset(-1);
  return info.Env().Undefined();
}

}  // namespace uffd
