#include "kvm_system_object.h"

#include <cstring>

#include "../os/kvm_system.h"
#include "args.h"

namespace uffd {

namespace {

// Entries of 32-bit fields as one Uint32Array.
template <typename Entry>
Napi::Value words(Napi::Env env, const std::vector<Entry>& entries) {
  auto array = Napi::Uint32Array::New(env, entries.size() * sizeof(Entry) / sizeof(uint32_t));
  if (!entries.empty()) std::memcpy(array.Data(), entries.data(), entries.size() * sizeof(Entry));
  return array;
}

}  // namespace

Napi::Function KvmSystemObject::define(Napi::Env env) {
  return DefineClass(env, "Kvm",
                     {
                         InstanceMethod<&KvmSystemObject::error>("error"),
                         InstanceMethod<&KvmSystemObject::api_version>("apiVersion"),
                         InstanceMethod<&KvmSystemObject::capability>("capability"),
                         InstanceMethod<&KvmSystemObject::run_size>("runSize"),
                         InstanceMethod<&KvmSystemObject::create_vm>("createVm"),
                         InstanceMethod<&KvmSystemObject::supported_cpuid>("supportedCpuid"),
                         InstanceMethod<&KvmSystemObject::msr_indices>("msrIndices"),
                         InstanceMethod<&KvmSystemObject::close>("close"),
                     });
}

// new Kvm(path); error() says whether it could be opened.
KvmSystemObject::KvmSystemObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Args args(info);
  std::string path = args.string(0);
  if (!args.ok()) return;
  auto fd = kvm::open(path.c_str());
  error_ = fd.error();
  if (fd.ok()) fd_ = fd.take();
}

Napi::Value KvmSystemObject::error(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), -error_); }

Napi::Value KvmSystemObject::api_version(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), kvm::api_version(fd_.get()));
}

Napi::Value KvmSystemObject::capability(const Napi::CallbackInfo& info) {
  Args args(info);
  int number = static_cast<int>(args.integer(0));
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), kvm::capability(fd_.get(), number));
}

Napi::Value KvmSystemObject::run_size(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), kvm::run_size(fd_.get()));
}

// createVm(type) -> descriptor or -errno
Napi::Value KvmSystemObject::create_vm(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t type = args.size(0);
  if (!args.ok()) return info.Env().Undefined();
  auto vm = kvm::create_vm(fd_.get(), type);
  return Napi::Number::New(info.Env(), vm.ok() ? vm.value().release() : -vm.error());
}

// supportedCpuid() -> 10 words for each kvm_cpuid_entry2, or -errno
Napi::Value KvmSystemObject::supported_cpuid(const Napi::CallbackInfo& info) {
  auto entries = kvm::supported_cpuid(fd_.get());
  if (!entries.ok()) return errno_value(info.Env(), entries.error());
  return words(info.Env(), entries.value());
}

Napi::Value KvmSystemObject::msr_indices(const Napi::CallbackInfo& info) {
  auto indices = kvm::msr_indices(fd_.get());
  if (!indices.ok()) return errno_value(info.Env(), indices.error());
  return words(info.Env(), indices.value());
}

Napi::Value KvmSystemObject::close(const Napi::CallbackInfo& info) {
  fd_.reset(-1);
  return info.Env().Undefined();
}

}  // namespace uffd
