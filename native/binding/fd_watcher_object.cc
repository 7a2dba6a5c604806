#include "fd_watcher_object.h"

#include "addon.h"
#include "args.h"

namespace uffd {

Napi::Function FdWatcherObject::define(Napi::Env env) {
  return DefineClass(env, "FdWatcher", {InstanceMethod<&FdWatcherObject::close>("close")});
}

// new FdWatcher(fd, callback(status)); status is 0 or a negative errno (EBADF for POLLERR). close()
// before the descriptor is closed: epoll would otherwise go on with whatever gets its number.
FdWatcherObject::FdWatcherObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Args args(info);
  int fd = static_cast<int>(args.integer(0));
  Napi::Function callback = args.function(1);
  if (!args.ok()) return;
  auto scope = Addon::of(info.Env()).loop();
  scope_ = scope;
  auto reference = std::make_shared<Napi::FunctionReference>(Napi::Persistent(callback));
  watch_ = scope->watch(
      fd, [reference](int status) { call_from_loop(*reference, {Napi::Number::New(reference->Env(), status)}); });
  if (watch_ == nullptr) args.reject("the descriptor cannot be watched");
}

FdWatcherObject::~FdWatcherObject() { stop(); }

void FdWatcherObject::stop() {
  // The scope may have closed the watch already; unwatch() knows which ones are its own.
  if (auto scope = scope_.lock()) scope->unwatch(watch_);
  watch_ = nullptr;
}

Napi::Value FdWatcherObject::close(const Napi::CallbackInfo& info) {
  stop();
  return info.Env().Undefined();
}

}  // namespace uffd
