#include "kvm_vcpu_object.h"

#include <cstring>

#include "../os/kvm_vcpu.h"
#include "addon.h"
#include "args.h"
#include "kvm_vm_object.h"

namespace uffd {

namespace {

class PendingRun : public Background {
 public:
  void cancel() override { thread->interrupt(true); }
  Napi::FunctionReference callback;
  std::shared_ptr<VcpuThread> thread;
};

// callback(result, failedAddress, faults, waitedNs, exit): kvm_run up to the end of the exit's data, then that of a
// port.
void report(const Napi::FunctionReference& callback, const VcpuExit& exit) {
  Napi::Env env = callback.Env();
  size_t header = sizeof(exit.run);
  void* bytes;
  napi_value buffer;
  if (napi_create_buffer(env, header + exit.data.size(), &bytes, &buffer) != napi_ok) return;
  std::memcpy(bytes, &exit.run, header);
  if (!exit.data.empty()) std::memcpy(static_cast<uint8_t*>(bytes) + header, exit.data.data(), exit.data.size());
  auto number = [env](auto value) { return Napi::Number::New(env, static_cast<double>(value)); };
  call_from_loop(callback, {number(exit.result), number(exit.failed_address), number(exit.faults),
                            number(exit.waited_ns), buffer});
}

// Entries of a struct from a typed array that holds nothing else.
template <typename Entry>
std::vector<Entry> entries_of(Bytes bytes) {
  std::vector<Entry> entries(bytes.length / sizeof(Entry));
  if (!entries.empty()) std::memcpy(entries.data(), bytes.data, entries.size() * sizeof(Entry));
  return entries;
}

}  // namespace

Napi::Function KvmVcpuObject::define(Napi::Env env) {
  return DefineClass(env, "KvmVcpu",
                     {
                         InstanceMethod<&KvmVcpuObject::error>("error"),
                         InstanceMethod<&KvmVcpuObject::descriptor>("fd"),
                         InstanceMethod<&KvmVcpuObject::get_state>("getState"),
                         InstanceMethod<&KvmVcpuObject::set_state>("setState"),
                         InstanceMethod<&KvmVcpuObject::set_cpuid>("setCpuid"),
                         InstanceMethod<&KvmVcpuObject::get_msrs>("getMsrs"),
                         InstanceMethod<&KvmVcpuObject::set_msrs>("setMsrs"),
                         InstanceMethod<&KvmVcpuObject::pre_fault>("preFault"),
                         InstanceMethod<&KvmVcpuObject::run>("run"),
                         InstanceMethod<&KvmVcpuObject::interrupt>("interrupt"),
                         InstanceMethod<&KvmVcpuObject::close>("close"),
                     });
}

// new KvmVcpu(vm, id, runSize); error() says whether it could be made.
KvmVcpuObject::KvmVcpuObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Args args(info);
  auto* vm = args.wrapped<KvmVmObject>(0, "a KvmVm");
  int id = static_cast<int>(args.size(1));
  uint64_t run_size = args.size(2);
  if (!args.ok()) return;
  auto thread = VcpuThread::create(vm->vm(), id, run_size);
  error_ = thread.error();
  if (thread.ok()) thread_ = thread.take();
}

Napi::Value KvmVcpuObject::error(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), -error_); }

Napi::Value KvmVcpuObject::descriptor(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), fd()); }

// getState(kind) -> the struct's bytes, or -errno
Napi::Value KvmVcpuObject::get_state(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t kind = args.size(0);
  args.expect(0, kind < kvm_vcpu::kStates, "a state");
  if (!args.ok()) return info.Env().Undefined();
  auto state = static_cast<kvm_vcpu::State>(kind);
  auto bytes = Napi::Buffer<uint8_t>::New(info.Env(), kvm_vcpu::size_of(state));
  std::memset(bytes.Data(), 0, bytes.Length());
  int error = kvm_vcpu::get(fd(), state, bytes.Data());
  if (error < 0) return Napi::Number::New(info.Env(), error);
  return bytes;
}

Napi::Value KvmVcpuObject::set_state(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t kind = args.size(0);
  Bytes bytes = args.bytes(1);
  args.expect(0, kind < kvm_vcpu::kStates, "a state");
  if (!args.ok()) return info.Env().Undefined();
  auto state = static_cast<kvm_vcpu::State>(kind);
  if (bytes.length != kvm_vcpu::size_of(state)) return args.reject("not the size of the state");
  return Napi::Number::New(info.Env(), kvm_vcpu::set(fd(), state, bytes.data));
}

// setCpuid(10 words for each kvm_cpuid_entry2)
Napi::Value KvmVcpuObject::set_cpuid(const Napi::CallbackInfo& info) {
  Args args(info);
  Bytes words = args.bytes(0);
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), kvm_vcpu::set_cpuid(fd(), entries_of<kvm_cpuid_entry2>(words)));
}

// getMsrs(kvm_msr_entry[], whose data are written) -> how many, or -errno
Napi::Value KvmVcpuObject::get_msrs(const Napi::CallbackInfo& info) {
  Args args(info);
  Bytes bytes = args.bytes(0);
  if (!args.ok()) return info.Env().Undefined();
  auto entries = entries_of<kvm_msr_entry>(bytes);
  int count = kvm_vcpu::get_msrs(fd(), &entries);
  if (count > 0) std::memcpy(bytes.data, entries.data(), entries.size() * sizeof(kvm_msr_entry));
  return Napi::Number::New(info.Env(), count);
}

Napi::Value KvmVcpuObject::set_msrs(const Napi::CallbackInfo& info) {
  Args args(info);
  Bytes bytes = args.bytes(0);
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), kvm_vcpu::set_msrs(fd(), entries_of<kvm_msr_entry>(bytes)));
}

// preFault(guestAddress, length) -> [guestAddress, length] of what is left, or -errno
Napi::Value KvmVcpuObject::pre_fault(const Napi::CallbackInfo& info) {
  Args args(info);
  kvm_pre_fault_memory request = {};
  request.gpa = args.size(0);
  request.size = args.size(1);
  if (!args.ok()) return info.Env().Undefined();
  int error = kvm_vcpu::pre_fault(fd(), &request);
  if (error < 0) return Napi::Number::New(info.Env(), error);
  auto left = Napi::Array::New(info.Env(), 2);
  left.Set(0U, static_cast<double>(request.gpa));
  left.Set(1U, static_cast<double>(request.size));
  return left;
}

// run(reply or undefined, callback) -> 0 or -errno; the callback comes once, from the loop.
Napi::Value KvmVcpuObject::run(const Napi::CallbackInfo& info) {
  Args args(info);
  Bytes reply = args.missing(0) ? Bytes{} : args.bytes(0);
  Napi::Function callback = args.function(1);
  if (!args.ok()) return info.Env().Undefined();
  if (!thread_) return errno_value(info.Env(), EBADF);
  auto scope = Addon::of(info.Env()).loop();
  auto pending = std::make_shared<PendingRun>();
  pending->callback = Napi::Persistent(callback);
  pending->thread = thread_;
  std::weak_ptr<PendingRun> weak = pending;
  scope->add(pending);
  int error = thread_->run(std::vector<uint8_t>(reply.data, reply.data + reply.length), [scope, weak](VcpuExit& exit) {
    auto copy = std::make_shared<VcpuExit>(std::move(exit));
    scope->post([scope, weak, copy] {
      auto pending = weak.lock();
      if (!pending) return;
      scope->remove(pending);
      // The callback may close the vCPU, which must be the end of it then.
      pending->thread.reset();
      report(pending->callback, *copy);
    });
  });
  if (error < 0) {
    scope->remove(pending);
  } else {
    pending_ = pending;
  }
  return Napi::Number::New(info.Env(), error);
}

Napi::Value KvmVcpuObject::interrupt(const Napi::CallbackInfo& info) {
  Args args(info);
  bool signal = args.boolean(0);
  if (args.ok() && thread_) thread_->interrupt(signal);
  return info.Env().Undefined();
}

// close(): the callback of a run that is still under way never comes.
Napi::Value KvmVcpuObject::close(const Napi::CallbackInfo& info) {
  if (auto pending = pending_.lock()) Addon::of(info.Env()).loop()->remove(pending);
  thread_.reset();
  return info.Env().Undefined();
}

}  // namespace uffd
