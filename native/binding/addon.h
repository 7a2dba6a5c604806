// The state of one environment: nothing in the addon is global but the signal handlers of
// os/guarded_access.
#pragma once

#include <napi.h>

#include <memory>

#include "loop_scope.h"

namespace uffd {

class Addon : public Napi::Addon<Addon> {
 public:
  Addon(Napi::Env env, Napi::Object exports);
  static Addon& of(Napi::Env env) { return *env.GetInstanceData<Addon>(); }

  const std::shared_ptr<LoopScope>& loop() const { return loop_; }

 private:
  std::shared_ptr<LoopScope> loop_;
};

}  // namespace uffd
