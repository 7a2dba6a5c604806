// KvmVm: the JavaScript class over os/kvm_vm.
#pragma once

#include <napi.h>

#include <memory>

#include "../os/kvm_vm.h"

namespace uffd {

class KvmVmObject : public Napi::ObjectWrap<KvmVmObject> {
 public:
  static constexpr napi_type_tag kTag{0x8c39840c814b79b2, 0x484e8553083a0a2e};
  static Napi::Function define(Napi::Env env);
  explicit KvmVmObject(const Napi::CallbackInfo& info);

  const std::shared_ptr<KvmVm>& vm() const { return vm_; }

 private:
  Napi::Value capability(const Napi::CallbackInfo& info);
  Napi::Value set_memory(const Napi::CallbackInfo& info);
  Napi::Value create_guest_memfd(const Napi::CallbackInfo& info);
  Napi::Value set_attributes(const Napi::CallbackInfo& info);
  Napi::Value enable_capability(const Napi::CallbackInfo& info);
  Napi::Value dirty_log(const Napi::CallbackInfo& info);
  Napi::Value clear_dirty_log(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  std::shared_ptr<KvmVm> vm_;
};

}  // namespace uffd
