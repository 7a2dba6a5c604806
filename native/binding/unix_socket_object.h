// UnixSocket: the JavaScript class over os/unix_socket, for listeners and connections alike.
#pragma once

#include <napi.h>

#include "../os/unique_fd.h"

namespace uffd {

class UnixSocketObject : public Napi::ObjectWrap<UnixSocketObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit UnixSocketObject(const Napi::CallbackInfo& info);

 private:
  static Napi::Value listen(const Napi::CallbackInfo& info);
  static Napi::Value connect(const Napi::CallbackInfo& info);
  static Napi::Value pair(const Napi::CallbackInfo& info);
  Napi::Value get_fd(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value close_detached(const Napi::CallbackInfo& info);
  Napi::Value accept(const Napi::CallbackInfo& info);
  Napi::Value receive(const Napi::CallbackInfo& info);
  Napi::Value send(const Napi::CallbackInfo& info);
  Napi::Value peer(const Napi::CallbackInfo& info);

  UniqueFd fd_;
};

}  // namespace uffd
