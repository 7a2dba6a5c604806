// Mapping: the JavaScript class over os/mapping and os/access_thread.
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "../os/mapping.h"

namespace uffd {

class MappingObject : public Napi::ObjectWrap<MappingObject> {
 public:
  static constexpr napi_type_tag kTag{0xb01f93a6b2090cb7, 0x0e1fe2235171da1e};
  static Napi::Function define(Napi::Env env);
  explicit MappingObject(const Napi::CallbackInfo& info);

  const std::shared_ptr<Mapping>& mapping() const { return mapping_; }

 private:
  Napi::Value error(const Napi::CallbackInfo& info);
  Napi::Value address(const Napi::CallbackInfo& info);
  Napi::Value unmap(const Napi::CallbackInfo& info);
  Napi::Value set_registered(const Napi::CallbackInfo& info);
  Napi::Value protect(const Napi::CallbackInfo& info);
  Napi::Value advise(const Napi::CallbackInfo& info);
  Napi::Value mincore(const Napi::CallbackInfo& info);
  Napi::Value relocate(const Napi::CallbackInfo& info);
  Napi::Value set_policy(const Napi::CallbackInfo& info);
  Napi::Value policy(const Napi::CallbackInfo& info);
  Napi::Value view(const Napi::CallbackInfo& info);
  Napi::Value detach_views(const Napi::CallbackInfo& info);
  Napi::Value access(const Napi::CallbackInfo& info);

  // An ArrayBuffer over the pages, and its hold on them, which ends when it is collected, or detached.
  struct View {
    Napi::ObjectReference buffer;  // weak
    std::weak_ptr<std::shared_ptr<Mapping>> hold;
  };
  std::vector<View> views_;

  // Shared with the views, the running accesses and the memory slots: the pages stay mapped until the last of them is
  // gone.
  std::shared_ptr<Mapping> mapping_;
  int error_ = 0;
};

}  // namespace uffd
