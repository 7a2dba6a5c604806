#include "probe_functions.h"

#include "../os/system_call.h"
#include "args.h"

namespace uffd {

namespace {

// systemCall(name, ...numbers or typed arrays) -> what it returned, or -errno
Napi::Value call_system(const Napi::CallbackInfo& info) {
  Args args(info);
  long number = system_call::number_of(args.string(0));
  args.expect(0, number >= 0, "a system call of native/os/system_call.cc");
  uint64_t arguments[system_call::kArguments] = {};
  for (size_t i = 1; i < info.Length() && i <= system_call::kArguments; i++) {
    arguments[i - 1] = info[i].IsTypedArray() ? reinterpret_cast<uint64_t>(args.bytes(i).data)
                                              : static_cast<uint64_t>(args.integer(i));
  }
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(system_call::call(number, arguments)));
}

// forkChild(touch: address or 0) -> pid, or -errno
Napi::Value fork_child(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t touch = args.size(0);
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(system_call::fork_child(touch)));
}

}  // namespace

void define_probe_functions(Napi::Env env, Napi::Object exports) {
  exports.Set("systemCall", Napi::Function::New(env, call_system, "systemCall"));
  exports.Set("forkChild", Napi::Function::New(env, fork_child, "forkChild"));
}

}  // namespace uffd
