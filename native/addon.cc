// Module entry: registers the classes below, no logic.
#include "binding/addon.h"

#include "bench/bench_objects.h"
#include "bench/stress_objects.h"
#include "binding/fault_queue_object.h"
#include "binding/fd_watcher_object.h"
#include "binding/kvm_system_object.h"
#include "binding/kvm_vcpu_object.h"
#include "binding/kvm_vm_object.h"
#include "binding/mapping_object.h"
#include "binding/memfd_object.h"
#include "binding/probe_functions.h"
#include "binding/process_functions.h"
#include "binding/source_file_object.h"
#include "binding/unix_socket_object.h"
#include "binding/userfaultfd_object.h"

namespace uffd {

Addon::Addon(Napi::Env env, Napi::Object exports) : loop_(LoopScope::create(env)) {
  exports.Set("Memfd", MemfdObject::define(env));
  exports.Set("Mapping", MappingObject::define(env));
  exports.Set("Userfaultfd", UserfaultfdObject::define(env));
  exports.Set("FaultQueue", FaultQueueObject::define(env));
  exports.Set("UnixSocket", UnixSocketObject::define(env));
  exports.Set("SourceFile", SourceFileObject::define(env));
  exports.Set("FdWatcher", FdWatcherObject::define(env));
  exports.Set("Kvm", KvmSystemObject::define(env));
  exports.Set("KvmVm", KvmVmObject::define(env));
  exports.Set("KvmVcpu", KvmVcpuObject::define(env));
  define_process_functions(env, exports);
  define_probe_functions(env, exports);
  define_bench_objects(env, exports);
  define_stress_objects(env, exports);
}

}  // namespace uffd

using UffdAddon = uffd::Addon;
NODE_API_NAMED_ADDON(uffd, UffdAddon)
