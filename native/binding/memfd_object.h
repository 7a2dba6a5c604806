// Memfd: the JavaScript class over os/memfd.
#pragma once

#include <napi.h>

#include "../os/unique_fd.h"

namespace uffd {

class MemfdObject : public Napi::ObjectWrap<MemfdObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit MemfdObject(const Napi::CallbackInfo& info);

  int fd() const { return fd_.get(); }

 private:
  static Napi::Value create(const Napi::CallbackInfo& info);
  static Napi::Value create_secret(const Napi::CallbackInfo& info);
  Napi::Value get_fd(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value set_size(const Napi::CallbackInfo& info);
  Napi::Value status(const Napi::CallbackInfo& info);
  Napi::Value add_seals(const Napi::CallbackInfo& info);
  Napi::Value get_seals(const Napi::CallbackInfo& info);
  Napi::Value punch_hole(const Napi::CallbackInfo& info);
  Napi::Value allocate(const Napi::CallbackInfo& info);
  Napi::Value seek(const Napi::CallbackInfo& info);
  Napi::Value write(const Napi::CallbackInfo& info);
  Napi::Value write_from_file(const Napi::CallbackInfo& info);

  UniqueFd fd_;
};

}  // namespace uffd
