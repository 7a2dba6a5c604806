// Kvm: the JavaScript class over os/kvm_system.
#pragma once

#include <napi.h>

#include "../os/unique_fd.h"

namespace uffd {

class KvmSystemObject : public Napi::ObjectWrap<KvmSystemObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit KvmSystemObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value error(const Napi::CallbackInfo& info);
  Napi::Value api_version(const Napi::CallbackInfo& info);
  Napi::Value capability(const Napi::CallbackInfo& info);
  Napi::Value run_size(const Napi::CallbackInfo& info);
  Napi::Value create_vm(const Napi::CallbackInfo& info);
  Napi::Value supported_cpuid(const Napi::CallbackInfo& info);
  Napi::Value msr_indices(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  UniqueFd fd_;
  int error_ = 0;
};

}  // namespace uffd
