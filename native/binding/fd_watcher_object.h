// FdWatcher: a callback from the event loop when a descriptor is readable (uv_poll). Does not own
// the descriptor.
#pragma once

#include <napi.h>

#include <memory>

#include "loop_scope.h"

namespace uffd {

class FdWatcherObject : public Napi::ObjectWrap<FdWatcherObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit FdWatcherObject(const Napi::CallbackInfo& info);
  ~FdWatcherObject() override;

 private:
  Napi::Value close(const Napi::CallbackInfo& info);
  void stop();

  std::weak_ptr<LoopScope> scope_;
  Watch* watch_ = nullptr;
};

}  // namespace uffd
