// SourceFile: the JavaScript class over os/source_file.
#pragma once

#include <napi.h>

#include "../os/mapping.h"
#include "../os/source_file.h"

namespace uffd {

class SourceFileObject : public Napi::ObjectWrap<SourceFileObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit SourceFileObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value error(const Napi::CallbackInfo& info);
  Napi::Value identity(const Napi::CallbackInfo& info);
  Napi::Value holes(const Napi::CallbackInfo& info);
  Napi::Value unchanged(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value hold(const Napi::CallbackInfo& info);
  Napi::Value held(const Napi::CallbackInfo& info);
  Napi::Value let_go(const Napi::CallbackInfo& info);
  Napi::Value resident(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  UniqueFd fd_;
  source_file::Identity identity_ = {};
  int error_ = 0;
  // Of the whole file, while the lease is held. Only the kernel loads from it.
  Mapping mapping_;
};

}  // namespace uffd
