#include "source_file_object.h"

#include <algorithm>

#include "../os/process.h"
#include "args.h"

namespace uffd {

Napi::Function SourceFileObject::define(Napi::Env env) {
  return DefineClass(env, "SourceFile",
                     {
                         InstanceMethod<&SourceFileObject::error>("error"),
                         InstanceMethod<&SourceFileObject::identity>("identity"),
                         InstanceMethod<&SourceFileObject::holes>("holes"),
                         InstanceMethod<&SourceFileObject::unchanged>("unchanged"),
                         InstanceMethod<&SourceFileObject::read>("read"),
                         InstanceMethod<&SourceFileObject::hold>("hold"),
                         InstanceMethod<&SourceFileObject::held>("held"),
                         InstanceMethod<&SourceFileObject::let_go>("letGo"),
                         InstanceMethod<&SourceFileObject::resident>("resident"),
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

// holes(limit) -> [start, end, start, end, ...]
Napi::Value SourceFileObject::holes(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t limit = args.size(0);
  if (!args.ok()) return info.Env().Undefined();
  auto array = Napi::Array::New(info.Env());
  for (int64_t at : source_file::holes(fd_.get(), identity_.size, limit)) {
    array.Set(array.Length(), static_cast<double>(at));
  }
  return array;
}

// unchanged(strictly)
Napi::Value SourceFileObject::unchanged(const Napi::CallbackInfo& info) {
  Args args(info);
  bool strictly = args.boolean(0);
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), source_file::unchanged(fd_.get(), &identity_, strictly));
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

// hold() -> the address of a mapping of the whole file, which nobody can change until held() says no; or -errno
Napi::Value SourceFileObject::hold(const Napi::CallbackInfo& info) {
  if (!source_file::residency_visible(fd_.get())) return errno_value(info.Env(), EPERM);
  int error = source_file::take_lease(fd_.get());
  if (error < 0) return Napi::Number::New(info.Env(), error);
  uint64_t size = static_cast<uint64_t>(identity_.size);
  auto mapping = Mapping::map(fd_.get(), 0, size, PROT_READ, MAP_SHARED);
  if (!mapping.ok()) {
    source_file::give_lease_back(fd_.get());
    return errno_value(info.Env(), mapping.error());
  }
  mapping_ = mapping.take();
  return Napi::Number::New(info.Env(), static_cast<double>(reinterpret_cast<uint64_t>(mapping_.data())));
}

Napi::Value SourceFileObject::held(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), source_file::lease_held(fd_.get()));
}

// letGo(): whoever waits for the file goes on; addresses from hold() are invalid
Napi::Value SourceFileObject::let_go(const Napi::CallbackInfo& info) {
  mapping_ = Mapping();
  source_file::give_lease_back(fd_.get());
  return info.Env().Undefined();
}

// resident(offset, length) -> whether all of it is in the page cache; only while held
Napi::Value SourceFileObject::resident(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t offset = args.size(0);
  uint64_t length = args.size(1);
  args.expect(1, mapping_.contains(offset, length), "within the file");
  if (!args.ok()) return info.Env().Undefined();
  constexpr uint64_t kPagesAtOnce = 512;
  uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  uint8_t pages[kPagesAtOnce];
  for (uint64_t done = 0; done < length;) {
    uint64_t bytes = std::min(length - done, kPagesAtOnce * page);
    uint64_t count = (bytes + page - 1) / page;
    if (mapping_.mincore(offset + done, bytes, pages) != 0) return Napi::Boolean::New(info.Env(), false);
    bool all = std::all_of(pages, pages + count, [](uint8_t one) { return (one & 1) != 0; });
    if (!all) return Napi::Boolean::New(info.Env(), false);
    done += bytes;
  }
  return Napi::Boolean::New(info.Env(), true);
}

Napi::Value SourceFileObject::close(const Napi::CallbackInfo& info) {
  mapping_ = Mapping();
  // A file system that does not answer keeps whoever closes the last descriptor.
  if (fd_.open()) process::close_detached(fd_.release());
  return info.Env().Undefined();
}

}  // namespace uffd
