// Userfaultfd: the JavaScript class over os/userfaultfd.
#pragma once

#include <napi.h>

#include "../os/unique_fd.h"

namespace uffd {

class UserfaultfdObject : public Napi::ObjectWrap<UserfaultfdObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit UserfaultfdObject(const Napi::CallbackInfo& info);

 private:
  static Napi::Value open(const Napi::CallbackInfo& info);
  Napi::Value get_fd(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value handshake(const Napi::CallbackInfo& info);
  Napi::Value register_range(const Napi::CallbackInfo& info);
  Napi::Value unregister_range(const Napi::CallbackInfo& info);
  Napi::Value answer(const Napi::CallbackInfo& info);
  Napi::Value set_mode(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value alive(const Napi::CallbackInfo& info);

  UniqueFd fd_;
};

}  // namespace uffd
