// KvmVcpu: the JavaScript class over os/kvm_vcpu and os/kvm_vcpu_thread.
#pragma once

#include <napi.h>

#include <memory>

#include "../os/kvm_vcpu_thread.h"
#include "loop_scope.h"

namespace uffd {

class KvmVcpuObject : public Napi::ObjectWrap<KvmVcpuObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit KvmVcpuObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value error(const Napi::CallbackInfo& info);
  Napi::Value descriptor(const Napi::CallbackInfo& info);
  Napi::Value get_state(const Napi::CallbackInfo& info);
  Napi::Value set_state(const Napi::CallbackInfo& info);
  Napi::Value set_cpuid(const Napi::CallbackInfo& info);
  Napi::Value get_msrs(const Napi::CallbackInfo& info);
  Napi::Value set_msrs(const Napi::CallbackInfo& info);
  Napi::Value pre_fault(const Napi::CallbackInfo& info);
  Napi::Value run(const Napi::CallbackInfo& info);
  Napi::Value interrupt(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  int fd() const { return thread_ ? thread_->fd() : -1; }

  // Also of the run under way, so that the environment can interrupt it.
  std::shared_ptr<VcpuThread> thread_;
  std::weak_ptr<Background> pending_;
  int error_ = 0;
};

}  // namespace uffd
